//! Label selectors: `app=web,tier in (fe,be),!canary` in requests, `matchLabels` and `matchExpressions` in objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::ParseError;
use crate::field::{FieldError, Path};
use crate::names;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are upstream's")]
pub enum Operator {
    In,
    NotIn,
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// What is compared with.
    pub values: BTreeSet<String>,
}

/// Requirements that must all hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Selects nothing, as an absent selector in an object does.
    nothing: bool,
}

impl LabelSelector {
    /// Selects nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// From a plain map, as Services have it. An empty map selects everything: whether that is meant is the caller's
    /// to know.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        Self { requirements: equalities(labels).collect(), nothing: false }
    }

    /// From an object's selector.
    ///
    /// # Errors
    /// Names an operator that does not exist.
    pub fn from_object(selector: &meta::LabelSelector) -> Result<Self, ParseError> {
        let mut requirements: Vec<Requirement> = selector.match_labels.iter().flat_map(equalities).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(ParseError(format!("{other:?} is not a valid label selector operator"))),
            };
            let values = expression.values.iter().flatten().cloned().collect();
            requirements.push(Requirement { key: expression.key.clone(), operator, values });
        }
        Ok(Self { requirements, nothing: false })
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Asks an object's labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Asks labels in any form.
    pub fn matches_with<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(value_of(&r.key)))
    }
}

fn equalities(labels: &BTreeMap<String, String>) -> impl Iterator<Item = Requirement> {
    labels.iter().map(|(key, value)| Requirement {
        key: key.clone(),
        operator: Operator::Equals,
        values: [value.clone()].into(),
    })
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|v| self.values.contains(v));
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let wanted = self.values.first().and_then(|v| number(v));
            value.and_then(number).zip(wanted).is_some_and(|(a, b)| holds(&a, &b))
        };
        match self.operator {
            Operator::In | Operator::Equals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(i64::gt),
            Operator::LessThan => compare(i64::lt),
        }
    }

    /// Keys and values must be ones that labels can have.
    fn check(self) -> Result<Self, ParseError> {
        let refuse = |field: String, value: &str, message: String| {
            let error = FieldError::invalid(field, value, message);
            Err(ParseError(format!("unable to parse requirement: {error}")))
        };
        if let Some(message) = names::qualified(&self.key).into_iter().next() {
            return refuse("key".to_owned(), &self.key, message);
        }
        for (index, value) in self.values.iter().enumerate() {
            if let Some(message) = names::label_value(value).into_iter().next() {
                return refuse(format!("values[{index}][{}]", self.key), value, message);
            }
            let ordered = matches!(self.operator, Operator::GreaterThan | Operator::LessThan);
            if ordered && value.parse::<i64>().is_err() {
                let message = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
                return refuse(format!("values[{index}]"), value, message);
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = || self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::In => write!(f, "{} in ({})", self.key, list()),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, list()),
            Operator::Equals => write!(f, "{}={}", self.key, list()),
            Operator::NotEquals => write!(f, "{}!={}", self.key, list()),
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::GreaterThan => write!(f, "{}>{}", self.key, list()),
            Operator::LessThan => write!(f, "{}<{}", self.key, list()),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.requirements.iter().map(ToString::to_string).collect();
        f.write_str(&list.join(","))
    }
}

impl FromStr for LabelSelector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { tokens: tokens(text), next: 0 };
        Ok(Self { requirements: parser.requirements()?, nothing: false })
    }
}

/// Words, and the symbols `= == != ( ) , ! < >`.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '=' if rest.starts_with("==") => 2,
            '!' if rest.starts_with("!=") => 2,
            '=' | '!' | '(' | ')' | ',' | '<' | '>' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !["=", "==", "!=", "(", ")", ",", "!", "<", ">"].contains(&token)
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    next: usize,
}

impl<'a> Parser<'a> {
    /// The next token, empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.next).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, ParseError> {
        let mut requirements = Vec::new();
        if self.peek().is_empty() {
            return Ok(requirements);
        }
        loop {
            let found = self.peek();
            if found != "!" && !is_word(found) {
                let message = format!("found '{found}', expected: !, identifier, or 'end of string'");
                return Err(ParseError(message));
            }
            requirements.push(self.requirement()?.check()?);
            match self.take() {
                "" => return Ok(requirements),
                "," => {}
                found => {
                    let message = format!("found '{found}', expected: ',' or 'end of string'");
                    return Err(ParseError(message));
                }
            }
            let found = self.peek();
            if found != "!" && !is_word(found) {
                return Err(ParseError(format!("found '{found}', expected: identifier after ','")));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let refuse = |found: &str, expected: &str| {
            Err(ParseError(format!("unable to parse requirement: found '{found}', expected: {expected}")))
        };
        let absent = self.peek() == "!";
        if absent {
            self.take();
        }
        let key = self.take();
        if !is_word(key) {
            return refuse(key, "identifier");
        }
        let done = |operator, values| Ok(Requirement { key: key.to_owned(), operator, values });
        if absent {
            return done(Operator::DoesNotExist, BTreeSet::new());
        }
        if ["", ","].contains(&self.peek()) {
            return done(Operator::Exists, BTreeSet::new());
        }
        let operator = match self.take() {
            "in" => return done(Operator::In, self.value_list()?),
            "notin" => return done(Operator::NotIn, self.value_list()?),
            "=" | "==" => Operator::Equals,
            "!=" => Operator::NotEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            found => return refuse(found, "in, notin, =, ==, !=, gt, lt"),
        };
        match self.peek() {
            "" | "," => done(operator, [String::new()].into()),
            found if is_word(found) => done(operator, [self.take().to_owned()].into()),
            found => refuse(found, "identifier"),
        }
    }

    fn value_list(&mut self) -> Result<BTreeSet<String>, ParseError> {
        let refuse = |found: &str, expected: &str| {
            Err(ParseError(format!("unable to parse requirement: found '{found}', expected: {expected}")))
        };
        match self.take() {
            "(" => {}
            found => return refuse(found, "'('"),
        }
        let mut values = BTreeSet::new();
        loop {
            if is_word(self.peek()) {
                values.insert(self.take().to_owned());
            } else {
                values.insert(String::new());
            }
            match self.take() {
                "," => {}
                ")" => return Ok(values),
                found => return refuse(found, "',' or ')'"),
            }
        }
    }
}

/// Everything wrong with a selector in an object.
pub(crate) fn validate(path: &Path<'_>, selector: &meta::LabelSelector, errors: &mut Vec<FieldError>) {
    crate::metadata::labels(&path.child("matchLabels"), selector.match_labels.as_ref(), errors);
    let expressions = path.child("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        validate_expression(&expressions.index(index), expression, errors);
    }
}

fn validate_expression(
    path: &Path<'_>,
    expression: &meta::LabelSelectorRequirement,
    errors: &mut Vec<FieldError>,
) {
    let values = expression.values.as_deref().unwrap_or_default();
    match expression.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(path.child("values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(path.child("operator"), other, "not a valid selector operator"));
        }
    }
    for message in names::qualified(&expression.key) {
        errors.push(FieldError::invalid(path.child("key"), &expression.key, message));
    }
    let path = path.child("values");
    for (index, value) in values.iter().enumerate() {
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(path.index(index), value, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        selector.parse::<LabelSelector>().unwrap().matches(&labels)
    }

    #[test]
    fn operators() {
        let labels = &[("app", "web"), ("n", "5"), ("empty", "")];
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            "app = web",
            "app in (web,api)",
            "app in ( web , api )",
            "app!=api",
            "absent!=x",
            "absent notin (x)",
            "!absent",
            "app=web,n>4,n<6",
            "empty=",
            "empty in (,x)",
        ] {
            assert!(matches(selector, labels), "{selector}");
        }
        for selector in
            ["app=api", "!app", "absent", "app notin (web)", "n>5", "n<5", "app>1", "absent=", "app=web,!n"]
        {
            assert!(!matches(selector, labels), "{selector}");
        }
    }

    #[test]
    fn refusals_as_upstream_words_them() {
        for (text, want) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("=b", "found '=', expected: !, identifier, or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "unable to parse requirement: found 'b', expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ] {
            assert_eq!(text.parse::<LabelSelector>().unwrap_err().to_string(), want, "{text}");
        }
        let bad = "a=va$ue".parse::<LabelSelector>().unwrap_err().to_string();
        assert!(bad.starts_with(
            r#"unable to parse requirement: values[0][a]: Invalid value: "va$ue": a valid label"#
        ));
    }

    #[test]
    fn selectors_of_objects() {
        let selector: meta::LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["fe", "be"] }],
        }))
        .unwrap();
        let selector = LabelSelector::from_object(&selector).unwrap();
        assert_eq!(selector.to_string(), "app=web,tier in (be,fe)");
        assert!(!LabelSelector::nothing().matches(&BTreeMap::new()));
        let bad = meta::LabelSelectorRequirement { operator: "Maybe".into(), ..Default::default() };
        let bad = meta::LabelSelector { match_expressions: Some(vec![bad]), ..Default::default() };
        assert_eq!(
            LabelSelector::from_object(&bad).unwrap_err().to_string(),
            r#""Maybe" is not a valid label selector operator"#
        );
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let key =
            "[a-z]{1,6}(/[a-z]{1,6})?".prop_filter("operators are no keys", |k| k != "in" && k != "notin");
        let word = || "[a-z0-9]{1,5}".prop_filter("operators are no values", |k| k != "in" && k != "notin");
        let many = prop::collection::btree_set(word(), 1..4);
        let one = || word().prop_map(|v| BTreeSet::from([v]));
        let operator = prop_oneof![
            many.clone().prop_map(|v| (Operator::In, v)),
            many.prop_map(|v| (Operator::NotIn, v)),
            one().prop_map(|v| (Operator::Equals, v)),
            one().prop_map(|v| (Operator::NotEquals, v)),
            Just((Operator::Exists, BTreeSet::new())),
            Just((Operator::DoesNotExist, BTreeSet::new())),
            (0i64..99).prop_map(|n| (Operator::GreaterThan, BTreeSet::from([n.to_string()]))),
        ];
        (key, operator).prop_map(|(key, (operator, values))| Requirement { key, operator, values })
    }

    proptest! {
        #[test]
        fn round_trip(requirements in prop::collection::vec(requirement(), 0..5)) {
            let selector = LabelSelector { requirements, nothing: false };
            prop_assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
        }

        #[test]
        fn no_input_panics(text in "[a-z=!(),<> \"é]{0,30}") {
            let _ = text.parse::<LabelSelector>();
        }
    }
}
