//! Selectors, as list and watch requests carry them and as objects hold them: parsed once, then asked of every object.

mod fields;
mod labels;

pub use fields::{FieldSelector, FieldTerm};
pub(crate) use labels::validate;
pub use labels::{LabelSelector, Operator, Requirement};

use thiserror::Error;

/// Why a selector does not parse; upstream's words.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ParseError(String);
