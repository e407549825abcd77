//! What the echo server is told by its command line and environment.

use std::collections::BTreeSet;

/// Where to listen and what to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) node: String,
    pub(crate) http: BTreeSet<u16>,
    pub(crate) tcp: BTreeSet<u16>,
    pub(crate) udp: BTreeSet<u16>,
}

/// Without any port of the pod's.
const DEFAULT_PORT: u16 = 8080;

impl Options {
    /// Reads `--name value` pairs; `environment` is asked for `ECHO_TCP` and `ECHO_UDP`, lists with commas.
    pub(crate) fn parse(
        args: impl IntoIterator<Item = String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--pod" => options.pod = value,
                "--namespace" => options.namespace = value,
                "--node" => options.node = value,
                "--http" => options.http.extend(ports(&value)?),
                "--tcp" => options.tcp.extend(ports(&value)?),
                "--udp" => options.udp.extend(ports(&value)?),
                _ => {
                    return Err(format!(
                        "unknown argument {name}; known are --http, --tcp and --udp with a port"
                    ));
                }
            }
        }
        options.tcp.extend(ports(&environment("ECHO_TCP").unwrap_or_default())?);
        options.udp.extend(ports(&environment("ECHO_UDP").unwrap_or_default())?);
        // One port speaks one language: the special request wins over what follows from containerPorts.
        options.http.retain(|port| !options.tcp.contains(port));
        if options.http.is_empty() && options.tcp.is_empty() && options.udp.is_empty() {
            options.http.insert(DEFAULT_PORT);
        }
        Ok(options)
    }
}

fn ports(list: &str) -> Result<Vec<u16>, String> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("{word} is not a port (1 to 65535)"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str, tcp: Option<&str>) -> Result<Options, String> {
        let environment = |name: &str| tcp.filter(|_| name == "ECHO_TCP").map(ToOwned::to_owned);
        Options::parse(args.split_whitespace().map(ToOwned::to_owned), environment)
    }

    #[test]
    fn ports_come_from_arguments_and_environment() {
        let options = parse("--pod p --http 80 --http 81 --udp 53", Some("81, 7")).unwrap();
        assert_eq!(options.http, [80].into());
        assert_eq!(options.tcp, [7, 81].into());
        assert_eq!(options.udp, [53].into());
        assert_eq!(parse("", None).unwrap().http, [8080].into());
        assert!(parse("--udp 53", None).unwrap().http.is_empty());
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(parse("--tcp seven", None).unwrap_err(), "seven is not a port (1 to 65535)");
        assert_eq!(parse("--tcp", None).unwrap_err(), "--tcp needs a value");
        assert!(parse("--nope 1", None).unwrap_err().starts_with("unknown argument --nope"));
    }
}
