//! The description of the API in the words of OpenAPI 3.1. A generator of requests checks the API against it.
#![expect(clippy::needless_pass_by_value, reason = "a schema is made where it is handed over")]

use axum::Json;
use axum::extract::State;
use hearken_data::feedback::{Item, Judgement};
use hearken_store::Added;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::exchange::{ExportSummary, NewToken, TokenWithSecret, Tokens};
use super::records::{Guidelines, Items, Judgements, Page, ProgressBody};
use super::work::{Asking, Decision, NextBody, Revision, Told};
use crate::error::ErrorBody;
use crate::exchange::{Imported, written_formats};
use crate::state::AppState;
use hearken_data::feedback::formats::Format;

/// `GET /openapi.json`.
pub(crate) async fn get(State(state): State<AppState>) -> Json<Value> {
    Json(description(&state.options().base))
}

/// The whole description.
pub(crate) fn description(base: &str) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let paths = paths(&mut generator);
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hearken",
            "version": "1",
            "description": "People compare answers; their judgements become training data. Every \
                request but this one carries a token: `Authorization: Bearer hearken_…`.",
        },
        "servers": [{"url": format!("{base}/api/v1")}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

/// A reference to the schema of a type.
fn of<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}

#[expect(clippy::too_many_lines, reason = "a flat table, an entry per operation")]
fn paths(types: &mut SchemaGenerator) -> Value {
    of::<ErrorBody>(types);
    json!({
        "/openapi.json": {"get": {
            "operationId": "describe",
            "summary": "This description",
            "security": [],
            "responses": {"200": ok("The description", json!({"type": "object"}))},
        }},
        "/progress": {"get": operation("progress", "How far the project is", "read")
            .answer(200, "Counts", of::<ProgressBody>(types))},
        "/guidelines": {"get": operation("guidelines", "The guidelines that hold", "any")
            .answer(200, "Version 0 stands for none", of::<Guidelines>(types))},
        "/items": {
            "get": operation("listItems", "Items in the order in which they were added", "read")
                .parameters(paging())
                .answer(200, "A page", of::<Page<Item>>(types)),
            "post": operation("addItems", "Add items, all or none", "write")
                .body(of::<Items>(types))
                .answer(201, "Added; equal items that were there already are counted", of::<Added>(types))
                .fails(&[409]),
        },
        "/items/{id}": {"get": operation("getItem", "One item", "read")
            .parameters(vec![id("An item")])
            .answer(200, "The item", of::<Item>(types))
            .fails(&[400, 404])},
        "/judgements": {
            "get": operation("listJudgements", "Judgements in the order in which they were appended", "read")
                .parameters(paging())
                .answer(200, "A page", of::<Page<Judgement>>(types))
                .link(200, "getJudgement", "$response.body#/records/0/record/id")
                .link(200, "revise", "$response.body#/records/0/record/id"),
            "post": operation("addJudgements", "Add judgements that were made elsewhere, all or none", "write")
                .body(of::<Judgements>(types))
                .answer(201, "Added; equal judgements that were there already are counted", of::<Added>(types))
                .fails(&[409]),
        },
        "/judgements/stream": {"get": operation("streamJudgements", "Every judgement as a line of JSON", "read")
            .answer_in(200, "JSON lines", "application/x-ndjson", json!({"type": "string"}))},
        "/judgements/{id}": {"get": operation("getJudgement", "One judgement", "read")
            .parameters(vec![id("A judgement")])
            .answer(200, "The judgement", of::<Judgement>(types))
            .fails(&[400, 404])},
        "/judgements/{id}/revision": {"post":
            operation("revise", "A judgement that takes the place of an earlier one by the same annotator", "label")
                .parameters(vec![id("The earlier judgement")])
                .body(of::<Revision>(types))
                .answer(200, "It was there already", of::<Told>(types))
                .answer(201, "On the disk", of::<Told>(types))
                .fails(&[404, 409])},
        "/next": {"post": operation("next", "What an annotator labels next", "label")
            .body(of::<Asking>(types))
            .answer(200, "An item in hand, or why there is none", of::<NextBody>(types))
            .link(200, "submit", "$response.body#/assignment/id")
            .link(200, "skip", "$response.body#/assignment/id")
            .link(200, "renew", "$response.body#/assignment/id")},
        "/assignments/{id}/judgement": {"post": operation("submit", "The judgement of an item in hand", "label")
            .parameters(vec![id("The assignment")])
            .body(of::<Decision>(types))
            .answer(200, "It was there already", of::<Told>(types))
            .answer(201, "On the disk", of::<Told>(types))
            .fails(&[404, 409])},
        "/assignments/{id}/skip": {"post": operation("skip", "Give an item back for good", "label")
            .parameters(vec![id("The assignment")])
            .empty(204, "Given back")
            .fails(&[400, 404, 409])},
        "/assignments/{id}/renewal": {"post": operation("renew", "Start the lease anew", "label")
            .parameters(vec![id("The assignment")])
            .empty(204, "The lease holds again")
            .fails(&[400, 404, 409])},
        "/export": {"get": operation("export", "Everything in a format", "read")
            .parameters(export_parameters())
            .file()
            .fails(&[400, 422])},
        "/export/report": {"get": operation("exportReport", "What an export would write, drop and lose", "read")
            .parameters(export_parameters())
            .answer(200, "Counts and reasons", of::<ExportSummary>(types))
            .fails(&[400, 422])},
        "/import": {"post": operation("import", "Add what a file holds", "write")
            .parameters(vec![
                query("format", one_of(Format::all().map(Format::as_str).collect()), false),
                query("skip_bad", json!({"type": "boolean"}), false),
                query("items_only", json!({"type": "boolean"}), false),
            ])
            .upload()
            .answer(201, "What the file held, and what was new", of::<Imported>(types))
            .fails(&[400, 409])},
        "/tokens": {
            "get": operation("listTokens", "Tokens without their secrets", "manage")
                .answer(200, "All tokens", of::<Tokens>(types)),
            "post": operation("addToken", "Make a token", "manage")
                .body(of::<NewToken>(types))
                .answer(201, "The token with its secret, which is told once", of::<TokenWithSecret>(types)),
        },
        "/tokens/{id}": {"delete": operation("revokeToken", "Revoke a token", "manage")
            .parameters(vec![id("The token")])
            .empty(204, "Revoked")
            .fails(&[400, 404, 409])},
    })
}

/// An operation of a path, while it is described.
#[derive(Clone, serde::Serialize)]
#[serde(transparent)]
struct Operation(Map<String, Value>);

/// An operation that asks for a scope, with the failures that every one of them has.
fn operation(name: &str, summary: &str, scope: &str) -> Operation {
    let mut operation = Operation(Map::new());
    let scope = match scope {
        "any" => "any token".to_owned(),
        scope => format!("a token with the scope `{scope}`"),
    };
    let fields = json!({
        "operationId": name,
        "summary": summary,
        "description": format!("Asks for {scope}."),
        "responses": {},
    });
    if let Value::Object(fields) = fields {
        operation.0 = fields;
    }
    operation.fails(&[401, 403, 429, 503])
}

impl Operation {
    fn set(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    fn respond(mut self, status: u16, response: Value) -> Self {
        self.0["responses"][status.to_string()] = response;
        self
    }

    fn parameters(self, parameters: Vec<Value>) -> Self {
        let has_query = parameters.iter().any(|parameter| parameter["in"] == "query");
        let described = self.set("parameters", json!(parameters));
        if has_query { described.fails(&[400]) } else { described }
    }

    /// A body of JSON, with the failures that reading one has.
    fn body(self, schema: Value) -> Self {
        let content = json!({"application/json": {"schema": schema}});
        self.set("requestBody", json!({"required": true, "content": content}))
            .fails(&[400, 408, 413, 415, 422])
    }

    /// A body that is a file.
    fn upload(self) -> Self {
        let text = json!({"schema": {"type": "string"}});
        let content = json!({
            "application/x-ndjson": text,
            "application/json": {"schema": {}},
            "text/csv": text,
            "application/gzip": {"schema": {"type": "string", "format": "binary"}},
        });
        self.set("requestBody", json!({"required": true, "content": content}))
            .fails(&[408, 413, 415, 422])
    }

    fn answer(self, status: u16, what: &str, schema: Value) -> Self {
        self.answer_in(status, what, "application/json", schema)
    }

    fn answer_in(self, status: u16, what: &str, kind: &str, schema: Value) -> Self {
        let content = json!({kind: {"schema": schema}});
        self.respond(status, json!({"description": what, "content": content}))
    }

    /// Says that an answer names what another operation is about.
    fn link(mut self, status: u16, operation: &str, id: &str) -> Self {
        let link = json!({"operationId": operation, "parameters": {"id": id}});
        self.0["responses"][status.to_string()]["links"][operation] = link;
        self
    }

    fn empty(self, status: u16, what: &str) -> Self {
        self.respond(status, json!({"description": what}))
    }

    /// A file of one of the formats.
    fn file(self) -> Self {
        let text = json!({"schema": {"type": "string"}});
        let content = json!({"application/x-ndjson": text, "text/csv": text});
        self.respond(200, json!({"description": "The file", "content": content}))
    }

    fn fails(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let (what, headers) = failure(*status);
            let mut response = json!({
                "description": what,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            });
            if let Some(header) = headers {
                response["headers"] = json!({header: {"schema": {"type": "string"}}});
            }
            self = self.respond(*status, response);
        }
        self
    }
}

fn failure(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        400 => ("The request cannot be read", None),
        401 => ("No token, or an unknown one", Some("WWW-Authenticate")),
        403 => ("The token has not the scope", None),
        404 => ("There is no such thing", None),
        408 => ("The body did not come in time", None),
        409 => ("It contradicts what is there", None),
        413 => ("The body is too large", None),
        415 => ("The type of the body is none that is understood", None),
        422 => ("The request can be read and makes no sense", None),
        429 => ("Too many requests", Some("Retry-After")),
        503 => ("The store cannot be used at the moment; nothing was stored", None),
        other => unreachable!("no operation fails with {other}"),
    }
}

fn ok(what: &str, schema: Value) -> Value {
    json!({"description": what, "content": {"application/json": {"schema": schema}}})
}

fn id(what: &str) -> Value {
    json!({
        "name": "id", "in": "path", "required": true, "description": what,
        "schema": {"type": "string", "minLength": 1},
    })
}

fn query(name: &str, schema: Value, required: bool) -> Value {
    json!({"name": name, "in": "query", "required": required, "schema": schema})
}

fn one_of(names: Vec<&'static str>) -> Value {
    json!({"type": "string", "enum": names})
}

fn paging() -> Vec<Value> {
    let after = json!({"type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100});
    vec![query("after", after, false), query("limit", limit, false)]
}

fn export_parameters() -> Vec<Value> {
    vec![
        query("format", one_of(written_formats()), true),
        query("ties", one_of(vec!["drop", "half"]), false),
        query("neutral_steps", one_of(vec!["drop", "good", "bad"]), false),
        query("form", one_of(vec!["as-imported", "text", "messages"]), false),
        query("votes", one_of(vec!["majority", "probability", "model", "each"]), false),
        query("exclude_annotators", json!({"type": "string"}), false),
        query("min_votes", json!({"type": "integer", "minimum": 1}), false),
        query("min_agreement", json!({"type": "number", "minimum": 0, "maximum": 1}), false),
        query("gold", json!({"type": "boolean"}), false),
        query("ai", json!({"type": "boolean"}), false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads to a schema, and every schema is referred to.
    #[test]
    fn references_and_schemas_fit() {
        let description = description("");
        let text = description.to_string();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name}");
        }
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    /// The description is made of the types: a field that a record gains is in it.
    #[test]
    fn records_are_described_with_all_their_fields() {
        let description = description("");
        let schemas = &description["components"]["schemas"];
        for (schema, fields) in [
            ("Judgement", &["margin", "verdict", "propensity"][..]),
            ("Item", &["candidates", "gold", "meta"]),
            ("TokenWithSecret", &["id", "scopes", "secret"]),
        ] {
            for field in fields {
                assert!(schemas[schema]["properties"].get(*field).is_some(), "{schema}.{field}");
            }
        }
        assert_eq!(schemas["Item"]["additionalProperties"], false);
    }
}
