//! Which pod has which address: one small file an address below a directory, so that a restarted agent finds all of
//! them and a killed one leaves either the whole claim or none.
//!
//! Promises: no address twice, the same address for the same id until it is released, and freed addresses are
//! handed out as late as possible, since peers may still have them in caches. Refuses: talking to the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::error::{Error, Result};

/// The claims on one node's range.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    range: Ipv4Net,
    by_id: BTreeMap<String, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, String>,
    last: Ipv4Addr,
}

impl Pool {
    /// Reads the claims below `dir`; what is not a whole claim on an address of `range` is dropped.
    pub(crate) fn open(dir: &Path, range: Ipv4Net) -> Result<Self> {
        if range.prefix_len() > 30 {
            return Err(Error::RangeTooSmall(range));
        }
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let mut pool = Self {
            dir: dir.to_owned(),
            range: range.trunc(),
            by_id: BTreeMap::new(),
            by_address: BTreeMap::new(),
            last: bridge_address(range),
        };
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let path = entry.map_err(Error::io("list", dir))?.path();
            pool.load(&path)?;
        }
        Ok(pool)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        let address =
            name.and_then(|name| name.parse::<Ipv4Addr>().ok()).filter(|address| self.usable(*address));
        let id = fs::read_to_string(path).map_err(Error::io("read", path))?;
        match address {
            Some(address) if !id.is_empty() && !self.by_id.contains_key(&id) => {
                self.last = self.last.max(address);
                self.by_id.insert(id.clone(), address);
                self.by_address.insert(address, id);
                Ok(())
            }
            _ => {
                tracing::warn!(file = %path.display(), range = %self.range, "dropping an address claim that does not fit");
                fs::remove_file(path).map_err(Error::io("remove", path))
            }
        }
    }

    /// The address of `id`, claimed now if it has none.
    pub(crate) fn claim(&mut self, id: &str) -> Result<Ipv4Addr> {
        if let Some(address) = self.by_id.get(id) {
            return Ok(*address);
        }
        let address = self.free().ok_or_else(|| self.exhausted())?;
        self.write(address, id)?;
        self.last = address;
        self.by_id.insert(id.to_owned(), address);
        self.by_address.insert(address, id.to_owned());
        Ok(address)
    }

    /// Gives the address of `id` back; without one this is nothing.
    pub(crate) fn release(&mut self, id: &str) -> Result<()> {
        let Some(address) = self.by_id.get(id).copied() else { return Ok(()) };
        let path = self.dir.join(address.to_string());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(error));
            }
            _ => {}
        }
        self.by_id.remove(id);
        self.by_address.remove(&address);
        Ok(())
    }

    /// Everyone who has an address.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.by_id.keys().cloned().collect()
    }

    /// The next free address after the last one given, around the range's end.
    fn free(&self) -> Option<Ipv4Addr> {
        let (first, end) = (u32::from(self.range.network()), u32::from(self.range.broadcast()));
        let last = u32::from(self.last);
        (last + 1..end)
            .chain(first..=last)
            .map(Ipv4Addr::from)
            .find(|address| self.usable(*address) && !self.by_address.contains_key(address))
    }

    fn usable(&self, address: Ipv4Addr) -> bool {
        self.range.contains(&address)
            && address != self.range.network()
            && address != self.range.broadcast()
            && address != bridge_address(self.range)
    }

    fn exhausted(&self) -> Error {
        let hosts = u32::from(self.range.broadcast()) - u32::from(self.range.network()) - 1;
        Error::Exhausted { range: self.range, capacity: hosts - 1 }
    }

    /// A rename makes the claim appear whole or not at all.
    fn write(&self, address: Ipv4Addr, id: &str) -> Result<()> {
        let path = self.dir.join(address.to_string());
        let draft = self.dir.join(format!(".{address}"));
        fs::write(&draft, id).map_err(Error::io("write", &draft))?;
        fs::rename(&draft, &path).map_err(Error::io("write", &path))
    }
}

/// The first address of a node's range: its bridge's.
pub(crate) fn bridge_address(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Pool {
        Pool::open(dir, "10.244.1.0/29".parse().unwrap()).unwrap()
    }

    #[test]
    fn claims_are_stable_distinct_and_end_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = open(dir.path());
        let given: Vec<_> = (0..5).map(|pod| pool.claim(&format!("pod{pod}")).unwrap().to_string()).collect();
        assert_eq!(given, ["10.244.1.2", "10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
        assert_eq!(pool.claim("pod3").unwrap().to_string(), "10.244.1.5");
        let error = pool.claim("pod5").unwrap_err().to_string();
        assert!(
            error.starts_with("no free pod address: all 5 addresses of 10.244.1.0/29 are in use"),
            "{error}"
        );
    }

    #[test]
    fn a_released_address_is_the_last_to_be_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = open(dir.path());
        assert_eq!(pool.claim("a").unwrap().to_string(), "10.244.1.2");
        pool.release("a").unwrap();
        pool.release("a").unwrap();
        let later: Vec<_> = ["b", "c", "d", "e"].map(|id| pool.claim(id).unwrap().to_string()).into();
        assert_eq!(later, ["10.244.1.3", "10.244.1.4", "10.244.1.5", "10.244.1.6"]);
        assert_eq!(pool.claim("f").unwrap().to_string(), "10.244.1.2");
    }

    #[test]
    fn a_new_owner_finds_all_claims_and_drops_what_is_torn_or_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = open(dir.path());
        pool.claim("a").unwrap();
        let kept = pool.claim("b").unwrap();
        fs::write(dir.path().join("10.244.1.5"), "").unwrap();
        fs::write(dir.path().join(".10.244.1.6"), "half").unwrap();
        fs::write(dir.path().join("10.9.9.9"), "c").unwrap();
        let mut again = open(dir.path());
        assert_eq!(again.ids(), ["a", "b"]);
        assert_eq!(again.claim("b").unwrap(), kept);
        assert_eq!(again.claim("c").unwrap().to_string(), "10.244.1.4");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_range_without_room_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pool::open(dir.path(), "10.244.1.0/31".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::RangeTooSmall(_)), "{error}");
    }
}
