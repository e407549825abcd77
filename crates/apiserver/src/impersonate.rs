//! Acting as somebody else (`kubectl --as`): who asks must hold the verb `impersonate` on the user, on each group and on
//! whatever else is claimed; or, narrower, `impersonate:user-info` on them and `impersonate-on:user-info:VERB` on what is
//! to be done. From there on the request is that of the other.

use http::HeaderMap;
use svcd_api::{ApiError, ResourceName};

use crate::authz::{Asked, Objects, cannot};
use crate::errors::Failure;
use crate::server::ApiServer;
use crate::user::{ANONYMOUS, AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// One thing that is claimed, as an object that the verb `impersonate` is about.
struct Claimed<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Claimed<'a> {
    fn asked(&self, verb: &'a str, group: &'a str) -> Objects<'a>
    where
        Self: 'a,
    {
        let Self { resource, subresource, namespace, name, .. } = *self;
        Objects { verb, group, resource, subresource, namespace, name }
    }
}

/// The account in `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT)?
        .split_once(':')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
}

/// Whom the headers name; `None` when they name nobody.
fn requested(headers: &HeaderMap) -> Result<Option<User>, Failure> {
    let text = |value: &http::HeaderValue| {
        let text = value.to_str().map(str::to_owned);
        text.map_err(|_| Failure::bad_request("an impersonation header is not text"))
    };
    let name = headers.get(USER).map(text).transpose()?.unwrap_or_default();
    let uid = headers.get(UID).map(text).transpose()?.unwrap_or_default();
    let groups: Vec<String> = headers.get_all(GROUP).iter().map(text).collect::<Result<_, _>>()?;
    let mut user = User { name, groups, uid, extra: Default::default() };
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        user.extra.entry(key).or_default().push(text(value)?);
    }
    if user.name.is_empty() {
        let nothing = user.groups.is_empty() && user.uid.is_empty() && user.extra.is_empty();
        let why = "groups, a UID or extra values were requested without a user to impersonate";
        return if nothing { Ok(None) } else { Err(Failure::bad_request(why)) };
    }
    Ok(Some(user))
}

fn claims(user: &User) -> Vec<Claimed<'_>> {
    let plain = |group, resource, name| Claimed { group, resource, subresource: "", namespace: "", name };
    let mut claims = vec![match service_account(&user.name) {
        Some((namespace, name)) => Claimed { namespace, ..plain("", "serviceaccounts", name) },
        None => plain("", "users", user.name.as_str()),
    }];
    claims.extend(user.groups.iter().map(|group| plain("", "groups", group)));
    if !user.uid.is_empty() {
        claims.push(plain(AUTHENTICATION, "uids", &user.uid));
    }
    for (key, values) in &user.extra {
        let extra = |value| Claimed { subresource: key, ..plain(AUTHENTICATION, "userextras", value) };
        claims.extend(values.iter().map(|value| extra(value.as_str())));
    }
    claims
}

/// Adds the groups that everybody of this name is in.
fn complete(mut user: User) -> User {
    if let (Some((namespace, _)), true) = (service_account(&user.name), user.groups.is_empty()) {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let usual = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(usual.to_owned());
    }
    user
}

impl ApiServer {
    /// The user whose request this is: who sent it, or whom they may and want to be.
    pub(crate) async fn acting(
        &self,
        user: User,
        headers: &HeaderMap,
        asked: &Asked<'_>,
    ) -> Result<User, Failure> {
        let Some(wanted) = requested(headers)? else { return Ok(user) };
        let claims = claims(&wanted);
        let mut allowed = true;
        for claim in &claims {
            let asked = Asked::Objects(claim.asked("impersonate", claim.group));
            allowed = allowed && self.decide(&user, &asked).await.is_allowed();
        }
        if !allowed {
            self.constrained(&user, &claims, asked).await?;
        }
        tracing::debug!(by = %user.name, user = %wanted.name, "impersonated");
        Ok(complete(wanted))
    }

    /// Upstream's constrained impersonation: the right to be somebody for one purpose.
    async fn constrained(
        &self,
        user: &User,
        claims: &[Claimed<'_>],
        asked: &Asked<'_>,
    ) -> Result<(), Failure> {
        let verb = match asked {
            Asked::Objects(objects) => objects.verb,
            Asked::Path { verb, .. } => verb,
        };
        let verb = format!("impersonate-on:user-info:{verb}");
        let purpose = match *asked {
            Asked::Objects(objects) => Asked::Objects(Objects { verb: &verb, ..objects }),
            Asked::Path { path, .. } => Asked::Path { verb: &verb, path },
        };
        self.require(user, &purpose).await?;
        for claim in claims {
            self.require(user, &Asked::Objects(claim.asked("impersonate:user-info", AUTHENTICATION))).await?;
        }
        Ok(())
    }

    async fn require(&self, user: &User, asked: &Asked<'_>) -> Result<(), Failure> {
        if self.decide(user, asked).await.is_allowed() {
            return Ok(());
        }
        Err(match *asked {
            Asked::Objects(objects) => {
                let resource = ResourceName::new(objects.group.to_owned(), objects.resource.to_owned());
                ApiError::forbidden(&resource, objects.name, &cannot(&user.name, &objects)).into()
            }
            Asked::Path { verb, path } => Failure::forbidden_path(&user.name, verb, path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn headers_name_a_user_with_all_that_belongs_to_it() {
        assert_eq!(requested(&headers(&[])).unwrap(), None);
        assert!(requested(&headers(&[(GROUP, "g")])).is_err());
        let pairs = [(USER, "bob"), (GROUP, "a"), (GROUP, "b"), (UID, "7"), ("impersonate-extra-x%2fy", "z")];
        let user = requested(&headers(&pairs)).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("bob", "7"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["x/y"], ["z"]);
        let claimed: Vec<_> =
            claims(&user).iter().map(|c| format!("{}/{} {}", c.resource, c.subresource, c.name)).collect();
        assert_eq!(claimed, ["users/ bob", "groups/ a", "groups/ b", "uids/ 7", "userextras/x/y z"]);
    }

    #[test]
    fn everybody_gets_the_groups_of_their_name() {
        let of = |name: &str| complete(requested(&headers(&[(USER, name)])).unwrap().unwrap()).groups;
        assert_eq!(of("bob"), [AUTHENTICATED]);
        assert_eq!(of(ANONYMOUS), [UNAUTHENTICATED]);
        assert_eq!(
            of("system:serviceaccount:ns:bot"),
            ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]
        );
    }
}
