//! What one route does, as its description says it.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::super::problem::Code;
use crate::domain::access::Scope;

/// Who a part of the API is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Tag {
    Clients,
    Workers,
    Operators,
    Operations,
}

impl Tag {
    pub(super) const ALL: [Self; 4] =
        [Self::Clients, Self::Workers, Self::Operators, Self::Operations];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Workers => "workers",
            Self::Operators => "operators",
            Self::Operations => "operations",
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Clients => "Submit jobs and follow them until they are done.",
            Self::Workers => "Claim jobs, show signs of life, settle.",
            Self::Operators => "Queues, workers, and why something does not move.",
            Self::Operations => "What machines ask of the server itself.",
        }
    }
}

/// Adds a type to the schemas; what refers to it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

pub(super) struct Body {
    pub(super) schema: SchemaOf,
    /// The first is the one to prefer.
    pub(super) media_types: &'static [&'static str],
    pub(super) required: bool,
    pub(super) example: Option<Value>,
}

pub(super) enum Content {
    Nothing,
    Json(SchemaOf),
    /// Text in one of these media types.
    Text(&'static [&'static str]),
    /// Bytes of any media type.
    Any,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    pub(super) content: Content,
    /// Names in `components.headers`, beside those of every answer.
    pub(super) headers: &'static [&'static str],
    /// Its `job_id` is one to ask for.
    pub(super) leads_to_job: bool,
    pub(super) example: Option<Value>,
}

impl Answer {
    pub(super) fn empty(status: u16, text: &'static str) -> Self {
        let content = Content::Nothing;
        Self { status, text, content, headers: &[], leads_to_job: false, example: None }
    }

    pub(super) fn json<T: JsonSchema>(status: u16, text: &'static str) -> Self {
        Self { content: Content::Json(schema_of::<T>), ..Self::empty(status, text) }
    }

    pub(super) fn text(status: u16, text: &'static str, types: &'static [&'static str]) -> Self {
        Self { content: Content::Text(types), ..Self::empty(status, text) }
    }

    pub(super) fn bytes(status: u16, text: &'static str) -> Self {
        Self { content: Content::Any, ..Self::empty(status, text) }
    }

    pub(super) fn headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }

    pub(super) fn leads_to_job(mut self) -> Self {
        self.leads_to_job = true;
        self
    }

    pub(super) fn example(mut self, value: Value) -> Self {
        self.example = Some(value);
        self
    }
}

pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) schema: Value,
    pub(super) text: &'static str,
}

/// The description of one method at one address.
pub(in crate::http) struct Operation {
    pub(super) id: &'static str,
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    /// Names in `components.parameters`.
    pub(super) parameters: Vec<&'static str>,
    pub(super) queries: Vec<Query>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) problems: Vec<Code>,
}

impl Operation {
    /// `text` in the little Markdown that [`page`](super::page) understands.
    pub(super) fn new(
        tag: Tag,
        id: &'static str,
        summary: &'static str,
        text: &'static str,
    ) -> Self {
        Self {
            id,
            tag,
            summary,
            text,
            parameters: Vec::new(),
            queries: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn parameters(mut self, names: &[&'static str]) -> Self {
        self.parameters.extend(names);
        self
    }

    pub(super) fn query(mut self, name: &'static str, schema: Value, text: &'static str) -> Self {
        self.queries.push(Query { name, schema, text });
        self
    }

    /// A body that must be there.
    pub(super) fn body<T: JsonSchema>(mut self, example: Value) -> Self {
        let example = Some(example);
        let schema = schema_of::<T>;
        self.body = Some(Body { schema, media_types: JSON, required: true, example });
        self
    }

    /// A JSON merge patch, which may also be called just JSON.
    pub(super) fn merge_patch<T: JsonSchema>(self, example: Value) -> Self {
        let mut operation = self.body::<T>(example);
        if let Some(body) = &mut operation.body {
            body.media_types = MERGE_PATCH;
        }
        operation
    }

    pub(super) fn optional_body<T: JsonSchema>(mut self) -> Self {
        let schema = schema_of::<T>;
        self.body = Some(Body { schema, media_types: JSON, required: false, example: None });
        self
    }

    pub(super) fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    pub(super) fn problems(mut self, codes: &[Code]) -> Self {
        self.problems.extend(codes);
        self
    }
}

/// Where an operation is.
pub(in crate::http) struct Described {
    pub(super) path: &'static str,
    pub(super) method: Method,
    /// One of these scopes of a token; any token, if there are none.
    pub(super) needs: Option<&'static [Scope]>,
    pub(super) operation: Operation,
}
