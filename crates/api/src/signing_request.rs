//! What stands in a certificate signing request (PKCS #10, PEM), and what the signers of a cluster want there. Reading one
//! also checks that it is signed with its own key.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// Signs what clients of the API server show.
pub const API_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Signs what nodes show to the API server.
pub const NODE_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signs what nodes show as servers.
pub const NODE_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The names in a signing request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// Of the subject; empty when there is none.
    pub common_name: String,
    /// Of the subject.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// Alternative names that are addresses.
    pub addresses: Vec<IpAddr>,
    /// Alternative names that are mail addresses.
    pub mail_addresses: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
}

impl SigningRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Why it is none, or that its signature does not hold.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
        let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        };
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|why| format!("x509: malformed certificate request: {why}"))?;
        if !rest.is_empty() {
            return Err("x509: trailing data after certificate request".to_owned());
        }
        request.verify_signature().map_err(|why| format!("x509: the signature does not hold: {why}"))?;
        Ok(Self::of(&request))
    }

    fn of(request: &X509CertificationRequest<'_>) -> Self {
        let subject = &request.certification_request_info.subject;
        let text =
            |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().ok().map(str::to_owned);
        let mut found = Self {
            common_name: subject.iter_common_name().find_map(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| found.add(name));
            }
        }
        found
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.mail_addresses.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => self.addresses.extend(address(bytes)),
            _ => {}
        }
    }

    /// Whether this signer may sign the request for these usages; `None` for a signer that is not the cluster's.
    pub fn suits(&self, signer: &str, usages: &[String]) -> Option<Result<(), String>> {
        match signer {
            API_CLIENT_SIGNER => Some(api_client(usages)),
            NODE_CLIENT_SIGNER => Some(self.node_client(usages)),
            NODE_SERVING_SIGNER => Some(self.node_serving(usages)),
            _ => None,
        }
    }

    fn node_client(&self, usages: &[String]) -> Result<(), String> {
        self.of_nodes()?;
        for (kind, is_there) in [
            ("DNS", !self.dns_names.is_empty()),
            ("Email", !self.mail_addresses.is_empty()),
            ("IP", !self.addresses.is_empty()),
            ("URI", !self.uris.is_empty()),
        ] {
            if is_there {
                return Err(format!("{kind} subjectAltNames are not allowed"));
            }
        }
        self.of_a_node()?;
        used_for("client auth", usages)
    }

    fn node_serving(&self, usages: &[String]) -> Result<(), String> {
        self.of_nodes()?;
        if self.dns_names.is_empty() && self.addresses.is_empty() {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        for (kind, is_there) in [("Email", !self.mail_addresses.is_empty()), ("URI", !self.uris.is_empty())] {
            if is_there {
                return Err(format!("{kind} subjectAltNames are not allowed"));
            }
        }
        used_for("server auth", usages)?;
        self.of_a_node()
    }

    fn of_nodes(&self) -> Result<(), String> {
        let fits = self.organizations == [NODES];
        fits.then_some(()).ok_or_else(|| "subject organization is not system:nodes".to_owned())
    }

    fn of_a_node(&self) -> Result<(), String> {
        let fits = self.common_name.starts_with(NODE_PREFIX);
        fits.then_some(()).ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// A node's certificate has this usage, and those that keys of one or the other type need.
fn used_for(purpose: &str, usages: &[String]) -> Result<(), String> {
    let usages: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let full = BTreeSet::from(["digital signature", "key encipherment", purpose]);
    let without_rsa = BTreeSet::from(["digital signature", purpose]);
    if usages == full || usages == without_rsa {
        return Ok(());
    }
    let full: Vec<&str> = full.into_iter().collect();
    Err(format!("usages did not match [{}]", full.join(" ")))
}

fn api_client(usages: &[String]) -> Result<(), String> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    let is_there = usages.iter().any(|usage| usage == "client auth");
    is_there
        .then_some(())
        .ok_or_else(|| "missing required usage for client certificate: client auth".to_owned())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Made with OpenSSL: CN=alice, O=dev, O=ops, a DNS name and an address; ECDSA.
    const ALICE: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
        MIIBGzCBwwIBADAsMQwwCgYDVQQKDANkZXYxDDAKBgNVBAoMA29wczEOMAwGA1UE\n\
        AwwFYWxpY2UwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARYmU/xCo70kMh7PPFC\n\
        mR2/mMFGG6bjk9P7HXA8wLP4XWblegbSDuYyx6kNFIFBuOqYJu538MkC/YNZLvzq\n\
        9n/hoDUwMwYJKoZIhvcNAQkOMSYwJDAiBgNVHREEGzAZghFhbGljZS5leGFtcGxl\n\
        LmNvbYcEwAACATAKBggqhkjOPQQDAgNHADBEAiBHVFd4pfRRJCTYJVX3t5bc2JYM\n\
        XEqH10Fgyu39AgYyYwIgOOiAnhXmvuq5+KoaBTFiHaSnDeWuDk6TzOJd9AFv/dg=\n\
        -----END CERTIFICATE REQUEST-----\n";

    fn node(name: &str) -> SigningRequest {
        SigningRequest {
            common_name: name.to_owned(),
            organizations: vec![NODES.to_owned()],
            ..SigningRequest::default()
        }
    }

    fn usages(purpose: &str) -> Vec<String> {
        ["digital signature", "key encipherment", purpose].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_names_are_read() {
        let request = SigningRequest::parse(ALICE.as_bytes()).unwrap();
        assert_eq!(request.common_name, "alice");
        assert_eq!(request.organizations, ["dev", "ops"]);
        assert_eq!(request.dns_names, ["alice.example.com"]);
        assert_eq!(request.addresses, [IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn what_is_no_request_or_not_signed_with_its_key_is_refused() {
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let why = SigningRequest::parse(text.as_bytes()).unwrap_err();
            assert_eq!(why, "PEM block type must be CERTIFICATE REQUEST");
        }
        let broken = ALICE.replacen("MII", "MIJ", 1);
        assert!(SigningRequest::parse(broken.as_bytes()).unwrap_err().starts_with("x509: "));
        // A letter of the name is another: the encoding is sound, the signature is not.
        let lines: Vec<&str> = ALICE.lines().collect();
        let body = lines[1..lines.len() - 1].concat();
        let mut bytes = STANDARD.decode(body).unwrap();
        let at = bytes.windows(5).position(|window| window == b"alice").unwrap();
        bytes[at] = b'A';
        let body = STANDARD.encode(bytes);
        let forged = format!("{}\n{body}\n{}\n", lines[0], lines[lines.len() - 1]);
        let why = SigningRequest::parse(forged.as_bytes()).unwrap_err();
        assert!(why.starts_with("x509: the signature does not hold"), "{why}");
    }

    #[test]
    fn the_signers_of_nodes_want_a_node() {
        let good = node("system:node:n1");
        let client =
            |request: &SigningRequest| request.suits(NODE_CLIENT_SIGNER, &usages("client auth")).unwrap();
        assert_eq!(client(&good), Ok(()));
        let named = SigningRequest { dns_names: vec!["n1".to_owned()], ..good.clone() };
        assert_eq!(client(&named), Err("DNS subjectAltNames are not allowed".to_owned()));
        assert_eq!(
            client(&node("alice")),
            Err("subject common name does not begin with system:node:".to_owned())
        );
        let other = SigningRequest { organizations: vec!["x".to_owned()], ..good.clone() };
        assert_eq!(client(&other), Err("subject organization is not system:nodes".to_owned()));
        assert_eq!(
            good.suits(NODE_CLIENT_SIGNER, &usages("server auth")).unwrap(),
            Err("usages did not match [client auth digital signature key encipherment]".to_owned())
        );
        let serving =
            |request: &SigningRequest| request.suits(NODE_SERVING_SIGNER, &usages("server auth")).unwrap();
        assert_eq!(serving(&named), Ok(()));
        assert_eq!(serving(&good), Err("DNS or IP subjectAltName is required".to_owned()));
    }

    #[test]
    fn the_signer_of_clients_minds_the_usages_only() {
        let anybody = SigningRequest::default();
        let suits = |usages: &[&str]| {
            let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
            anybody.suits(API_CLIENT_SIGNER, &usages).unwrap()
        };
        assert_eq!(suits(&["client auth", "digital signature"]), Ok(()));
        assert_eq!(
            suits(&["server auth"]),
            Err("invalid usage for client certificate: server auth".to_owned())
        );
        assert!(suits(&["key encipherment"]).unwrap_err().starts_with("missing required usage"));
        assert_eq!(anybody.suits("example.com/signer", &[]), None);
    }
}
