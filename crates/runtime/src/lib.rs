//! What every long-running role needs around itself: logging, metrics, readiness, a health port, and an orderly end.
//!
//! Promises: a role ends for a reason that it can name; readiness is held back by guards that are called after what they
//! wait for. Refuses: to know what any role does, to read the environment, to hold configuration.

mod admin;
mod clock;
mod error;
mod lifecycle;
mod logging;
mod plain_http;
mod readiness;

pub use admin::{Admin, Metrics};
pub use clock::sleep_until;
pub use error::Error;
pub use lifecycle::Lifecycle;
pub use logging::{LogFormat, init_logging};
pub use plain_http::{Answer, answer_at};
pub use readiness::{Readiness, ReadyGuard};
