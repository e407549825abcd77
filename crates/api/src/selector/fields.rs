//! Field selectors: `metadata.name=web,spec.type!=NodePort`. Which fields there are is the kind's business.

use std::fmt;
use std::str::FromStr;

use super::ParseError;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// `spec.type`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// `!=` instead of `=`.
    pub negated: bool,
}

/// Comparisons that must all hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldTerm>);

impl FieldSelector {
    /// The comparisons.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.0
    }

    /// Selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that a field must have, when the selector says so: lets a watch of one name read one key.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }

    /// Asks an object; a field that it does not have is empty.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|t| (value_of(&t.field).unwrap_or_default() == t.value) != t.negated)
    }
}

impl FromStr for FieldSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            terms.push(term(part).ok_or_else(|| {
                ParseError(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?);
        }
        Ok(Self(terms))
    }
}

fn term(part: &str) -> Option<FieldTerm> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    let (negated, value) = if let Some(value) = rest.strip_prefix("!=") {
        (true, value)
    } else {
        (false, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)
    };
    Some(FieldTerm { field: field.to_owned(), value: unescape(value)?, negated })
}

/// Splits at commas that no backslash stands before.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Only backslash, comma and equals may be escaped, and the latter two must be.
fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| ['\\', ',', '='].contains(c))?),
            '=' | ',' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> FieldSelector {
        text.parse().unwrap()
    }

    #[test]
    fn all_terms_must_hold() {
        let selector = parse("metadata.name=web,spec.type!=NodePort");
        let ask = |name: &'static str, kind: &'static str| {
            selector.matches(|field| match field {
                "metadata.name" => Some(name),
                "spec.type" => Some(kind),
                _ => None,
            })
        };
        assert!(ask("web", "ClusterIP"));
        assert!(!ask("web", "NodePort"));
        assert!(!ask("other", "ClusterIP"));
        assert_eq!(selector.required("metadata.name"), Some("web"));
        assert_eq!(selector.required("spec.type"), None);
        assert!(parse("").matches(|_| None));
        assert!(parse("spec.nodeName=").matches(|_| Some("")));
    }

    #[test]
    fn refusals_name_the_part() {
        for (text, part) in [("a", "a"), ("x=1,b", "b"), ("a=b=c", "a=b=c"), (r"a=\z", r"a=\z")] {
            let want = format!("invalid selector: '{text}'; can't understand '{part}'");
            assert_eq!(text.parse::<FieldSelector>().unwrap_err().to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn round_trip(terms in prop::collection::vec(("[a-z.]{1,8}", "[a-z,=\\\\]{0,8}", any::<bool>()), 0..4)) {
            let selector = FieldSelector(
                terms.into_iter().map(|(field, value, negated)| FieldTerm { field, value, negated }).collect(),
            );
            prop_assert_eq!(parse(&selector.to_string()), selector);
        }

        #[test]
        fn no_input_panics(text in ".{0,40}") {
            let _ = text.parse::<FieldSelector>();
        }
    }
}
