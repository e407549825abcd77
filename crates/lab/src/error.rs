//! What can go wrong with a lab, each with what to do about it.

use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Why a lab command failed. `Display` says what went wrong, [`Error::fix`] what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("{0}")]
    Plan(String),
    #[error("a lab is running already ({subnet}, {nodes} nodes)")]
    Running { subnet: Ipv4Net, nodes: usize },
    #[error("no lab is running")]
    NotRunning,
    #[error("another command is putting this lab up or taking it down")]
    Busy,
    #[error("{path} is not a lab's directory: it has other files in it", path = path.display())]
    NotALab { path: PathBuf },
    #[error("this machine already uses {used}, which overlaps the lab's network {wanted}")]
    SubnetTaken { wanted: Ipv4Net, used: String, free: Option<Ipv4Net> },
    #[error("the lab has no node {name:?}")]
    NoSuchNode { name: String, known: String },
    #[error("{program} is not on this machine")]
    Missing { program: &'static str, package: &'static str },
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot {what}: {source}")]
    Kernel { what: String, source: std::io::Error },
    #[error("{source}")]
    Namespace { source: svcd_podnet::Error },
    #[error("{node} ended before it was ready: {reason}")]
    NodeEnded { node: String, reason: String, log: PathBuf },
    #[error("{node} was not ready within {seconds} s")]
    NotReady { node: String, seconds: u64, log: PathBuf },
    #[error("the lab's API refused {what}: {source}")]
    Api { what: &'static str, source: Box<kube::Error> },
    #[error("the lab's admin has no access: {0}")]
    Kubeconfig(#[from] Box<svcd_client::KubeconfigError>),
    #[error("the lab's kubeconfig {path} cannot be used: {source}", path = path.display())]
    Access { path: PathBuf, source: Box<svcd_client::ConnectError> },
    #[error("{0} processes of the lab would not end")]
    WouldNotEnd(usize),
}

impl Error {
    /// What the person at the keyboard can do.
    pub fn fix(&self) -> String {
        match self {
            Self::Plan(_) => "choose another network with --subnet, or fewer --nodes".into(),
            Self::Running { .. } => {
                "use it (`svcd lab status`), or remove it first with `svcd lab down`".into()
            }
            Self::NotRunning => "start one with `svcd lab up`".into(),
            Self::Busy => "wait until it is done, then look at `svcd lab status`".into(),
            Self::NotALab { .. } => "name an empty or a new directory with SVCD_LAB_DIR".into(),
            Self::SubnetTaken { free: Some(free), .. } => {
                format!("use a free one: svcd lab up --subnet {free}")
            }
            Self::SubnetTaken { free: None, .. } => "name a free one with --subnet".into(),
            Self::NoSuchNode { known, .. } => format!("its nodes are: {known}"),
            Self::Missing { package, .. } => format!("install it: apt-get install {package}"),
            Self::File { .. } => "look at the directory's owner, its rights and the free space".into(),
            Self::Kernel { .. } | Self::Namespace { .. } => {
                "run as root; without root, the machine must allow user namespaces".into()
            }
            Self::NodeEnded { log, .. } | Self::NotReady { log, .. } => {
                format!("read {}, then clean up with `svcd lab down`", log.display())
            }
            Self::Api { .. } | Self::Kubeconfig(_) | Self::Access { .. } => {
                "look at `svcd lab status`, or start over: `svcd lab down`".into()
            }
            Self::WouldNotEnd(_) => "run `svcd lab down` again".into(),
        }
    }
}

/// Adds to an I/O error what was tried, and on which file.
pub(crate) trait OnFile<T> {
    fn on(self, what: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T> OnFile<T> for std::io::Result<T> {
    fn on(self, what: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::File { what, path: path.to_owned(), source })
    }
}
