//! `proto/schema.txt`, read once. Its format stands at the top of `proto/generate/main.go`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The name of a field whose own fields stand in the message itself.
pub(super) const INLINE: &str = "~";
/// The envelope around every object (`runtime.Unknown`, with its `TypeMeta` inlined).
const ENVELOPE: &str = "runtime.Unknown\n 1 ~ runtime.TypeMeta\n 2 raw bytes\nruntime.TypeMeta\n 1 apiVersion string\n 2 kind string\n";

/// How a value is written.
#[derive(Debug)]
pub(super) enum Form {
    Text,
    Bool,
    Int,
    Bytes,
    Quantity,
    Time { fraction: bool },
    IntOrString,
    Json,
    Items(Box<Self>),
    Message(&'static str),
}

/// How often it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Once, and left out of JSON when it is empty.
    Plain,
    /// Once; an empty one means something.
    Kept,
    Repeated,
    Map,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) mark: Mark,
}

#[derive(Debug, Default)]
pub(super) struct Schema {
    kinds: HashMap<(&'static str, &'static str), &'static str>,
    messages: HashMap<&'static str, Vec<Field>>,
}

impl Schema {
    /// The message of a kind.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&'static str> {
        self.kinds.get(&(api_version, kind)).copied()
    }

    /// The fields of a message.
    pub(super) fn fields(&self, name: &str) -> Result<&[Field], String> {
        self.messages
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| format!("no message {name:?} is known in protobuf"))
    }

    fn read(&mut self, text: &'static str) {
        let mut message = "";
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words[..] {
                ["=", api_version, kind, name] => drop(self.kinds.insert((api_version, kind), name)),
                ["", number, name, form] => self.field(message, number, name, form, ""),
                ["", number, name, form, mark] => self.field(message, number, name, form, mark),
                [name] => {
                    message = name;
                    self.messages.insert(name, Vec::new());
                }
                _ => unreachable!("a line of schema.txt: {line:?}"),
            }
        }
    }

    fn field(&mut self, message: &str, number: &str, name: &'static str, form: &'static str, mark: &str) {
        let number = number.parse().expect("field numbers are numbers");
        let mark = match mark {
            "*" => Mark::Kept,
            "[]" => Mark::Repeated,
            "{}" => Mark::Map,
            _ => Mark::Plain,
        };
        let fields = self.messages.get_mut(message).expect("fields follow their message");
        fields.push(Field { number, name, form: form_of(form), mark });
    }
}

fn form_of(word: &'static str) -> Form {
    match word {
        "string" => Form::Text,
        "bool" => Form::Bool,
        "int" => Form::Int,
        "bytes" => Form::Bytes,
        "quantity" => Form::Quantity,
        "time" => Form::Time { fraction: false },
        "microtime" => Form::Time { fraction: true },
        "int-or-string" => Form::IntOrString,
        "json" => Form::Json,
        _ => match word.strip_prefix("items:") {
            Some(item) => Form::Items(Box::new(form_of(item))),
            None => Form::Message(word),
        },
    }
}

/// The schema.
pub(super) fn get() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = Schema::default();
        schema.read(ENVELOPE);
        schema.read(include_str!("../../proto/schema.txt"));
        schema
    })
}
