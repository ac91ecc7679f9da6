//! The schemas: the wire types, with what [`members`](super::members) knows of their members.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::members;

/// Where schemas refer to each other.
const PLACE: &str = "/components/schemas";

pub(super) struct Schemas {
    pub(super) requests: SchemaGenerator,
    pub(super) answers: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let base = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = PLACE.into();
        });
        Self {
            requests: base.clone().for_deserialize().into_generator(),
            answers: base.for_serialize().into_generator(),
        }
    }

    /// All that were referred to, by name: requests closed, answers open.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let requests = self.requests.take_definitions(true);
        let answers = self.answers.take_definitions(true);
        let mut all = Map::new();
        for (name, mut schema) in requests {
            tidy(&mut schema);
            if schema["type"] == "object" {
                schema["additionalProperties"] = json!(false);
            }
            members::of_request(&name, &mut schema);
            all.insert(name, schema);
        }
        for (name, mut schema) in answers {
            tidy(&mut schema);
            members::of_answer(&name, &mut schema);
            debug_assert!(!all.contains_key(&name), "{name} is a request and an answer");
            all.insert(name, schema);
        }
        all
    }
}

/// Absent members are left out, never `null`; defaults are what a reader fills in; widths of
/// numbers are our own affair.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("default");
            object.remove("$schema");
            if let Some(format) = object.get("format").and_then(Value::as_str)
                && (format.starts_with("uint") || format == "double")
            {
                object.remove("format");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = &types[..] {
                    object["type"] = one.clone();
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|one| one["type"] != "null");
                if let [Value::Object(one)] = &choices[..] {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
            // Text of the source is wrapped; prose is not.
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            for value in object.values_mut() {
                tidy(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
