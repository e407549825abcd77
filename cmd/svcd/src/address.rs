//! Which address of this machine others are told to call.

use std::net::{IpAddr, SocketAddr};

use svcd_check::Choice;

use crate::failure::Failure;

/// The one given, else the one that is listened on, else the one that [`svcd_check::advertised`] finds; with the port that is
/// listened on.
pub(crate) fn advertised(given: Option<IpAddr>, listen: SocketAddr) -> Result<SocketAddr, Failure> {
    let listened = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let found = given.or(listened).or_else(|| {
        let Choice { address, reason } = svcd_check::advertised()?;
        tracing::info!(%address, reason, "others are told to call this address");
        Some(address)
    });
    let none =
        || Failure::new("this machine has no address but loopback", "give one with --advertise-address");
    Ok(SocketAddr::new(found.ok_or_else(none)?, listen.port()))
}

/// Whether svcd chooses, so that another address may take its place.
pub(crate) fn is_chosen(given: Option<IpAddr>, listen: SocketAddr) -> bool {
    given.is_none() && listen.ip().is_unspecified()
}

/// The address that svcd would choose now.
pub(crate) fn choose() -> Option<IpAddr> {
    svcd_check::advertised().map(|choice| choice.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_or_listened_on_comes_first() {
        let any = "0.0.0.0:6443".parse().unwrap();
        let given = advertised(Some(IpAddr::from([10, 0, 0, 1])), any).unwrap();
        assert_eq!(given.to_string(), "10.0.0.1:6443");
        let listened = advertised(None, "127.0.0.1:7000".parse().unwrap()).unwrap();
        assert_eq!(listened.to_string(), "127.0.0.1:7000");
    }
}
