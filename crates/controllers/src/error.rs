//! The crate's error.

/// What went wrong in a controller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("controllers cannot be configured: {0}")]
    Config(String),
    /// A request to the API server failed.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was tried, with the object's name.
        action: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// An approved certificate could not be made.
    #[error("cannot sign {name}: {source}")]
    Sign {
        /// The request's name.
        name: String,
        /// Why not.
        source: svcd_pki::Error,
    },
    /// A loop that must run for ever came to an end.
    #[error("the {task} controller ended: {reason}")]
    Ended {
        /// Which one.
        task: &'static str,
        /// Why, as far as is known.
        reason: String,
    },
}

impl Error {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The object has been changed since it was read; the attempt is worth repeating with the newer one.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// The object does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// There is one of that name.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// Nothing can be created here now, because the namespace is going.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|s| s.is_forbidden() && s.message.contains("being terminated"))
    }

    /// The cache was behind the server: looking again helps.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_conflict() || self.is_not_found() || self.is_already_exists()
    }
}

/// Says what a request was for.
pub(crate) trait Doing<T> {
    /// Wraps the client's error; `action` completes "cannot …".
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { action: action(), source: Box::new(source) })
    }
}

/// Takes "it is gone already" for success.
pub(crate) fn unless_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}
