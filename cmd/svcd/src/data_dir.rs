//! The names in a data directory, each of them once. `svcd uninstall` removes what is listed here and nothing else, so that
//! a name that is not listed here is one that nobody writes.

use std::path::{Path, PathBuf};

macro_rules! entries {
    ($($(#[$doc:meta])* $entry:ident = $name:expr,)*) => {
        /// What svcd puts into a data directory.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Entry {
            $($(#[$doc])* $entry,)*
        }

        impl Entry {
            /// All that there may be.
            pub(crate) const ALL: &[Self] = &[$(Self::$entry,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$entry => $name,)*
                }
            }
        }
    };
}

entries! {
    /// The cluster's state.
    Store = "store",
    /// The authority's certificate and key, and what the server shows of itself.
    Pki = "pki",
    /// What the node keeps (`svcd_node`).
    Agent = svcd_node::AGENT_DIR,
    AdminKubeconfig = "admin.kubeconfig",
    /// The newest token that the server has made at its start.
    JoinToken = "join-token",
    /// Stands there while a restore is under way: without the rest a server would begin an empty cluster.
    Restoring = "RESTORING",
    /// What is saved on a schedule. It may hold files that are not ours.
    Snapshots = "snapshots",
}

impl Entry {
    pub(crate) fn within(self, data_dir: &Path) -> PathBuf {
        data_dir.join(self.name())
    }
}

/// The authority's certificate.
pub(crate) const CA_CERTIFICATE: &str = "ca.crt";
/// The authority's key.
pub(crate) const CA_KEY: &str = "ca.key";

/// Where the server's certificate stands for whoever wants to look at it.
pub(crate) fn serving_certificate(data_dir: &Path) -> PathBuf {
    Entry::Pki.within(data_dir).join("serving.crt")
}
