//! `svcd certs`: what a data directory has of certificates, a server's or an agent's, and when each is renewed.

use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use svcd_check::Dated;
use svcd_client::Access;
use svcd_node::Credentials;
use svcd_pki::Certificate;

use crate::cli::{CertsArgs, Output};
use crate::data_dir::{CA_CERTIFICATE, Entry, serving_certificate};
use crate::failure::Failure;

/// What a certificate is for.
#[derive(Clone, Copy)]
enum Kind {
    Authority,
    Server,
    Client,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

struct Found {
    kind: Kind,
    file: PathBuf,
    certificate: Certificate,
}

pub(crate) fn run(args: &CertsArgs) -> Result<(), Failure> {
    let found = find(&args.data_dir)?;
    if found.is_empty() {
        let what = format!("there is no certificate in {}", args.data_dir.display());
        return Err(Failure::new(what, "give the --data-dir that `svcd server` or `svcd agent` has"));
    }
    match args.output {
        Output::Text => print!("{}", text(&found, Timestamp::now())),
        Output::Json => println!("{}", json(&found)),
    }
    Ok(())
}

fn find(data_dir: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut add = |kind, file: PathBuf, pem: &dyn Fn(&Path) -> Result<String, Failure>| {
        if !file.exists() {
            return Ok(());
        }
        let broken = |error| {
            let reason = format!("{error}");
            svcd_pki::Error::Broken { path: file.clone(), reason }
        };
        let certificate = Certificate::from_pem(&pem(&file)?).map_err(broken)?;
        found.push(Found { kind, file, certificate });
        Ok::<_, Failure>(())
    };
    let plain = |path: &Path| Ok(svcd_pki::read(path)?);
    add(Kind::Authority, Entry::Pki.within(data_dir).join(CA_CERTIFICATE), &plain)?;
    add(Kind::Server, serving_certificate(data_dir), &plain)?;
    add(Kind::Client, Entry::AdminKubeconfig.within(data_dir), &|path| {
        let access = Access::from_file(path)
            .map_err(|error| Failure::new(error, "a start of `svcd server` writes it anew"))?;
        Ok(access.certificate)
    })?;
    add(Kind::Client, Credentials::path(data_dir), &|path| {
        Ok(Credentials::load(path)?.map(|credentials| credentials.certificate).unwrap_or_default())
    })?;
    Ok(found)
}

/// Those that a start does not issue anew: the authority's, and the one with which a node knows itself to the server.
pub(crate) fn lasting(data_dir: &Path) -> Result<Vec<Dated>, Failure> {
    let own = Credentials::path(data_dir);
    let lasts = |found: &Found| matches!(found.kind, Kind::Authority) || found.file == own;
    let dated = |Found { certificate, .. }: Found| Dated {
        name: certificate.common_name,
        not_before: certificate.not_before.as_second(),
        not_after: certificate.not_after.as_second(),
    };
    Ok(find(data_dir)?.into_iter().filter(lasts).map(dated).collect())
}

/// When it is renewed, in words where that is no time.
fn renewal(found: &Found) -> Option<Timestamp> {
    match found.kind {
        Kind::Authority => None,
        Kind::Server | Kind::Client => Some(found.certificate.renewal()),
    }
}

fn text(found: &[Found], now: Timestamp) -> String {
    let row = |cells: [&str; 6]| {
        let [name, kind, before, after, renewal, file] = cells;
        format!("{name:<24} {kind:<10} {before:<21} {after:<21} {renewal:<21} {file}\n")
    };
    let mut text = row(["NAME", "KIND", "NOT BEFORE", "NOT AFTER", "RENEWED AT", "FILE"]);
    for one in found {
        let Certificate { common_name, not_before, not_after, .. } = &one.certificate;
        let renewed = match renewal(one) {
            _ if *not_after < now => "expired".to_owned(),
            Some(time) => time.to_string(),
            None => "by hand".to_owned(),
        };
        let (before, after) = (not_before.to_string(), not_after.to_string());
        let file = one.file.display().to_string();
        text += &row([common_name, one.kind.name(), &before, &after, &renewed, &file]);
    }
    text
}

fn json(found: &[Found]) -> serde_json::Value {
    let all = found.iter().map(|one| {
        serde_json::json!({
            "name": one.certificate.common_name,
            "kind": one.kind.name(),
            "notBefore": one.certificate.not_before.to_string(),
            "notAfter": one.certificate.not_after.to_string(),
            "renewedAt": renewal(one).map(|time| time.to_string()),
            "file": one.file,
        })
    });
    serde_json::json!({ "certificates": all.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_certificate_of_a_server_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let ca = std::sync::Arc::new(svcd_pki::Ca::load_or_create(&Entry::Pki.within(dir.path())).unwrap());
        let wanted = crate::certificates::Wanted {
            data_dir: dir.path().to_owned(),
            names: vec!["localhost".into()],
            url: "https://192.0.2.1:6443".to_owned(),
            validity: Duration::from_secs(3600),
        };
        drop(crate::certificates::Certificates::issue(&ca, wanted).unwrap());
        let found = find(dir.path()).unwrap();
        let lasting = lasting(dir.path()).unwrap();
        assert_eq!(lasting.iter().map(|dated| dated.name.as_str()).collect::<Vec<_>>(), ["svcd-ca"]);
        let now = Timestamp::now();
        let shown = text(&found, now);
        let words: Vec<Vec<&str>> =
            shown.lines().skip(1).map(|line| line.split_whitespace().take(2).collect()).collect();
        assert_eq!(words, [["svcd-ca", "authority"], ["svcd", "server"], ["kubernetes-admin", "client"]]);
        assert!(shown.lines().nth(1).unwrap().contains("by hand"), "{shown}");
        let value = json(&found);
        let renewed: Timestamp = value["certificates"][1]["renewedAt"].as_str().unwrap().parse().unwrap();
        let left = renewed.duration_since(now).as_secs();
        assert!((2390..=2400).contains(&left), "{left}");
        let later = now + k8s_openapi::jiff::SignedDuration::from_hours(2);
        assert_eq!(text(&found, later).matches("expired").count(), 2);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(Entry::Pki.within(dir.path())).unwrap();
        std::fs::write(serving_certificate(dir.path()), "nonsense").unwrap();
        assert!(find(dir.path()).is_err_and(|failure| format!("{failure:?}").contains("serving.crt")));
    }
}
