//! How each type merges: `schema/types.txt`, read once. Its format stands at the top of `schema/generate/main.go`.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

/// The form of a value, as the text writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form(&'static str);

/// What a form comes to.
#[derive(Debug)]
pub(super) enum Shape {
    /// One field, whatever is in it.
    Leaf,
    /// Merged as it comes: objects by their members, the rest whole.
    Any,
    /// A list whose elements are fields.
    Set,
    /// A list whose elements are told apart by these of their fields.
    Keyed(Vec<&'static str>, Form),
    Map(Form),
    Struct(&'static Struct),
}

/// A type with fields.
pub(super) type Struct = HashMap<&'static str, Field>;

#[derive(Debug)]
pub(super) struct Field {
    pub(super) form: Form,
    /// Every object has it, if only as an empty one.
    pub(super) always: bool,
    pub(super) default: Option<Value>,
}

impl Form {
    pub(super) fn shape(self) -> Shape {
        let word = self.0;
        if word == "s" || word.starts_with('!') || word.starts_with("[]") {
            Shape::Leaf
        } else if word == "?" {
            Shape::Any
        } else if word.starts_with("[=]") {
            Shape::Set
        } else if let Some(values) = word.strip_prefix("{}") {
            Shape::Map(Self(values))
        } else if let Some((keys, items)) = word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let mut keys: Vec<&str> = keys.split(',').collect();
            keys.sort_unstable();
            Shape::Keyed(keys, Self(items))
        } else {
            match table().types.get(word) {
                Some(Type::Struct(fields)) => Shape::Struct(fields),
                Some(Type::Other(form)) => form.shape(),
                None => Shape::Leaf,
            }
        }
    }

    /// The form of what stands under an element of a field set.
    pub(super) fn below(self, element: &str) -> Self {
        match self.shape() {
            Shape::Struct(fields) => {
                element.strip_prefix("f:").and_then(|name| fields.get(name)).map_or(ANY, |field| field.form)
            }
            Shape::Map(form) | Shape::Keyed(_, form) => form,
            _ => ANY,
        }
    }
}

/// What is known of nothing.
pub(super) const ANY: Form = Form("?");

#[derive(Debug)]
enum Type {
    Struct(Struct),
    Other(Form),
}

#[derive(Debug, Default)]
struct Table {
    kinds: HashMap<(&'static str, &'static str), Form>,
    types: HashMap<&'static str, Type>,
}

/// The type of a kind.
pub(super) fn of(api_version: &str, kind: &str) -> Option<Form> {
    let kinds: &HashMap<(&str, &str), Form> = &table().kinds;
    kinds.get(&(api_version, kind)).copied()
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read(include_str!("../../schema/types.txt")))
}

fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    let mut current = "";
    for line in text.lines() {
        let (words, default) = line.split_once('\t').unwrap_or((line, ""));
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["=", api_version, kind, name] => drop(table.kinds.insert((api_version, kind), Form(name))),
            ["", name, form, ref mark @ ..] => {
                let default = serde_json::from_str(default).ok();
                let field = Field { form: Form(form), always: !mark.is_empty(), default };
                if let Some(Type::Struct(fields)) = table.types.get_mut(current) {
                    fields.insert(name, field);
                }
            }
            [name] => {
                current = name;
                table.types.insert(name, Type::Struct(Struct::new()));
            }
            // A struct taken whole: its fields are of no interest.
            [name, form] => {
                current = name;
                table.types.insert(name, Type::Other(Form(form)));
            }
            _ => unreachable!("a line of types.txt: {line:?}"),
        }
    }
    table
}
