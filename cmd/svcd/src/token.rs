//! `svcd token …`: join tokens. They are Secrets in `kube-system`, as upstream's bootstrap tokens are, except that only
//! the hash of the secret half is kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{DeleteParams, ListParams, ObjectMeta};
use svcd_client::{Access, Objects};
use svcd_pki::JoinToken;

use crate::cli::TokenCommand;
use crate::data_dir::Entry;
use crate::failure::Failure;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";

pub(crate) async fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { at, ttl, uses, description } => {
            let (client, server) = connect(&at.data_dir)?;
            let ca = svcd_pki::Ca::load_or_create(&Entry::Pki.within(&at.data_dir))?;
            let limits = Limits { ttl, uses };
            let token = create(client, JoinToken::generate(ca.pin()), limits, &description).await?;
            println!("{}", join_line(&server, &token.to_string()));
            Ok(())
        }
        TokenCommand::List { at } => list(connect(&at.data_dir)?.0).await,
        TokenCommand::Revoke { at, id } => revoke(connect(&at.data_dir)?.0, &id).await,
    }
}

/// What to type on a worker.
pub(crate) fn join_line(server: &str, token: &str) -> String {
    format!("svcd agent --join {server} --token {token}")
}

/// What a token is good for.
pub(crate) struct Limits {
    /// Zero never ends.
    pub(crate) ttl: Duration,
    /// How many machines may join with it; any number when that is not said.
    pub(crate) uses: Option<u32>,
}

/// Stores a token.
pub(crate) async fn create(
    client: Client,
    token: JoinToken,
    Limits { ttl, uses }: Limits,
    description: &str,
) -> Result<JoinToken, Failure> {
    let mut data = BTreeMap::from([
        ("token-id".to_owned(), token.id.clone()),
        ("token-secret-sha256".to_owned(), svcd_pki::hash_secret(&token.secret)),
    ]);
    if !ttl.is_zero() {
        let expiry =
            SignedDuration::try_from(ttl).ok().and_then(|ttl| Timestamp::now().checked_add(ttl).ok());
        let too_long =
            || Failure::new("the token would live longer than time is counted", "give a shorter --ttl");
        data.insert(
            "expiration".to_owned(),
            expiry.ok_or_else(too_long)?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
    }
    data.extend(uses.map(|uses| ("uses-left".to_owned(), uses.to_string())));
    if !description.is_empty() {
        data.insert("description".to_owned(), description.to_owned());
    }
    let secret = Secret {
        metadata: ObjectMeta { name: Some(format!("{PREFIX}{}", token.id)), ..ObjectMeta::default() },
        type_: Some(TYPE.to_owned()),
        data: Some(data.into_iter().map(|(k, v)| (k, ByteString(v.into_bytes()))).collect()),
        ..Secret::default()
    };
    api(client).create(&secret).await.map_err(refused)?;
    Ok(token)
}

async fn list(client: Client) -> Result<(), Failure> {
    let parameters = ListParams::default().fields(&format!("type={TYPE}"));
    let secrets = api(client).list(&parameters).await.map_err(refused)?;
    println!("{:<10} {:<22} {:<6} DESCRIPTION", "ID", "EXPIRES", "USES");
    for secret in secrets.items {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(&v.0).into_owned());
        let expires = text("expiration").unwrap_or_else(|| "never".to_owned());
        println!(
            "{:<10} {:<22} {:<6} {}",
            text("token-id").unwrap_or_default(),
            expires,
            text("uses-left").unwrap_or_else(|| "any".to_owned()),
            text("description").unwrap_or_default()
        );
    }
    Ok(())
}

async fn revoke(client: Client, id: &str) -> Result<(), Failure> {
    match api(client).delete(&format!("{PREFIX}{id}"), &DeleteParams::default()).await {
        Ok(_) => {
            println!("token {id} is revoked");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err(Failure::new(format!("there is no token {id:?}"), "see `svcd token list`"))
        }
        Err(error) => Err(refused(error)),
    }
}

fn api(client: Client) -> Objects<Secret> {
    Objects::namespaced(client, NAMESPACE)
}

pub(crate) fn refused(error: kube::Error) -> Failure {
    if let kube::Error::Api(status) = &error {
        return Failure::new(
            format!("the API server refused: {}", status.message),
            "look at the server's log",
        );
    }
    // The last cause is the one that says something, such as "Connection refused".
    let first: &(dyn Error + 'static) = &error;
    let cause = std::iter::successors(Some(first), |error| (*error).source()).last().unwrap_or(first);
    let what = format!("cannot reach the API server: {cause}");
    Failure::new(what, "is `svcd server` running here? Look at its log")
}

/// A client with the admin's rights, and the server's URL.
pub(crate) fn connect(data_dir: &Path) -> Result<(Client, String), Failure> {
    let path = Entry::AdminKubeconfig.within(data_dir);
    let fix = "run this on the control plane as root, with the --data-dir that its `svcd server` has";
    let unusable =
        |error: &dyn std::fmt::Display| Failure::new(format!("cannot use {}: {error}", path.display()), fix);
    let access = Access::from_file(&path).map_err(|e| unusable(&e))?;
    Ok((svcd_client::connect(&access).map_err(|e| unusable(&e))?, access.server))
}
