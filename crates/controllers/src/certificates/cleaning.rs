//! Requests that nobody needs any more are deleted: those decided an hour after the decision, those that nobody decides
//! or signs after a day, and those whose certificate has expired.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use svcd_pki::Certificate;

use super::{APPROVED, DENIED, FAILED, Requests, certificate, conditions};
use crate::Error;
use crate::error::{Doing, unless_gone};
use crate::kit::drive::Again;
use crate::kit::store::Key;
use crate::kit::{meta, pods};

const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const UNDECIDED: SignedDuration = SignedDuration::from_hours(24);

pub(super) async fn reconcile(requests: &Requests, key: &Key) -> Result<Again, Error> {
    let Some(request) = requests.store.get(key) else { return Ok(None) };
    let (Some(due), now) = (due(&request), Timestamp::now()) else { return Ok(None) };
    if due > now {
        return Ok(Some(pods::until(due, now)));
    }
    tracing::info!(request = %key, "the signing request is of no more use and is deleted");
    let deleted = requests.api.delete(&key.name, &meta::only_this(&request.metadata)).await;
    unless_gone(deleted.map(|_| ()).doing(|| format!("delete signing request {key}")))?;
    Ok(None)
}

/// When a request may go.
fn due(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let issued = certificate(request);
    let all = conditions(request);
    if all.is_empty() {
        let created = request.metadata.creation_timestamp.as_ref()?.0;
        return created.checked_add(UNDECIDED).ok();
    }
    let by_condition = all.iter().filter_map(|condition| {
        let life = match condition.type_.as_str() {
            APPROVED if issued.is_none() => UNDECIDED,
            APPROVED | DENIED | FAILED => DECIDED,
            _ => return None,
        };
        condition.last_update_time.as_ref()?.0.checked_add(life).ok()
    });
    let approved = all.iter().any(|condition| condition.type_ == APPROVED);
    let expires = issued.filter(|_| approved).and_then(expiry);
    by_condition.chain(expires).min()
}

fn expiry(pem: &[u8]) -> Option<Timestamp> {
    Certificate::from_pem(str::from_utf8(pem).ok()?).ok().map(|certificate| certificate.not_after)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;
    use crate::certificates::condition;

    const HOUR: i64 = 3600;

    fn request(kinds: &[&str], certificate: Option<&str>) -> CertificateSigningRequest {
        let at = |second: i64| Some(Time(Timestamp::from_second(second).unwrap()));
        let decided = |kind: &&str| {
            let mut condition = condition(kind, "", String::new());
            condition.last_update_time = at(10 * HOUR);
            condition
        };
        let certificate = certificate.map(|text| ByteString(text.as_bytes().to_vec()));
        let conditions = Some(kinds.iter().map(decided).collect());
        CertificateSigningRequest {
            metadata: ObjectMeta { creation_timestamp: at(0), ..ObjectMeta::default() },
            status: Some(CertificateSigningRequestStatus { certificate, conditions }),
            ..CertificateSigningRequest::default()
        }
    }

    #[test]
    fn when_requests_go() {
        for (kinds, certificate, hour) in [
            (&[][..], None, Some(24)),
            (&["Denied"], None, Some(11)),
            (&["Approved"], None, Some(34)),
            (&["Approved"], Some("PEM"), Some(11)),
            (&["Approved", "Failed"], None, Some(11)),
            (&["Odd"], None, None),
        ] {
            let due = due(&request(kinds, certificate)).map(|due| due.as_second() / HOUR);
            assert_eq!(due, hour, "{kinds:?} {certificate:?}");
        }
    }

    #[test]
    fn a_certificate_that_has_expired_is_of_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let ca = svcd_pki::Ca::load_or_create(dir.path()).unwrap();
        let short = ca.issue_client("x", &[], std::time::Duration::from_secs(60)).unwrap();
        let mut issued = request(&["Approved"], Some(&short.cert));
        let condition = &mut issued.status.as_mut().unwrap().conditions.as_mut().unwrap()[0];
        condition.last_update_time = Some(Time(Timestamp::now()));
        let left = due(&issued).unwrap().as_second() - Timestamp::now().as_second();
        assert!((50..=60).contains(&left), "{left}");
    }
}
