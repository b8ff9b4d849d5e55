//! The records of the API as JSON schemas.

use serde_json::{Map, Value, json};

use crate::api::tokens::Scope;

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Every schema by its name.
pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    for part in [item_schemas(), judgement_schemas(), work_schemas(), other_schemas()] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

/// An object with these fields and no others.
fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

fn optional(mut schema: Value) -> Value {
    let kind = schema["type"].take();
    schema["type"] = json!([kind, "null"]);
    schema
}

fn natural() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": i64::MAX})
}

fn free() -> Value {
    json!({"type": "object"})
}

fn one_of(names: &[&str]) -> Value {
    json!({"type": "string", "enum": names})
}

const TASKS: [&str; 4] = ["pairwise", "ranking", "rating", "steps"];
const ORIGINS: [&str; 3] = ["human", "ai", "synthetic"];

fn item_schemas() -> Value {
    let roles = one_of(&["system", "developer", "user", "assistant", "tool"]);
    let gold = object(
        &["verdict"],
        json!({
            "verdict": reference("Verdict"),
            "reason": optional(text()),
            "screening": {"type": "boolean"},
        }),
    );
    json!({
        "Message": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": roles, "content": text()},
        },
        "Media": object(&["source"], json!({"source": text(), "alt": text()})),
        "Candidate": object(&[], json!({
            "text": text(),
            "steps": texts(),
            "media": list("Media"),
            "model": optional(text()),
            "meta": free(),
        })),
        "Gold": gold,
        "Item": object(&["id", "task", "candidates"], json!({
            "id": {"type": "string", "description": "Empty when it is added: its hash becomes its name"},
            "task": one_of(&TASKS),
            "prompt": list("Message"),
            "media": list("Media"),
            "candidates": {"type": "array", "items": reference("Candidate"), "minItems": 1},
            "gold": {"anyOf": [reference("Gold"), {"type": "null"}]},
            "overlap": optional(json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})),
            "priority": {"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX},
            "sensitive": {"type": "boolean"},
            "meta": free(),
        })),
    })
}

fn verdict(kind: &str, required: &[&str], mut fields: Value) -> Value {
    fields["kind"] = json!({"const": kind});
    let mut all = vec!["kind"];
    all.extend(required);
    object(&all, fields)
}

fn verdict_schema() -> Value {
    let index = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    let points = json!({"type": "integer", "minimum": 1, "maximum": 255});
    let strength = object(&["points", "scale"], json!({"points": points, "scale": points}));
    let number = json!({"type": ["number", "null"]});
    json!({"oneOf": [
        verdict("preferred", &["candidate"], json!({
            "candidate": {"type": "integer", "minimum": 0, "maximum": 1},
            "strength": {"anyOf": [strength, {"type": "null"}]},
        })),
        verdict("tie", &[], json!({})),
        verdict("both_bad", &[], json!({})),
        verdict("cant_tell", &["reason"], json!({"reason": text()})),
        verdict("soft", &["probability"], json!({
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
        })),
        verdict("ranking", &["order"], json!({
            "order": {"type": "array", "minItems": 1, "items": {
                "type": "array", "minItems": 1, "items": index,
            }},
        })),
        verdict("ratings", &["axes"], json!({
            "axes": {"type": "object", "additionalProperties": {"type": "array", "items": number}},
        })),
        verdict("steps", &["labels"], json!({
            "labels": {"type": "array", "items": {
                "type": ["integer", "null"], "minimum": -1, "maximum": 1,
            }},
        })),
        verdict("approval", &["good"], json!({"good": {"type": "boolean"}})),
    ]})
}

fn judgement_schemas() -> Value {
    let index = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    json!({
        "Verdict": verdict_schema(),
        "Judgement": object(&["id", "item", "annotator", "verdict"], json!({
            "id": {"type": "string", "minLength": 1},
            "item": text(),
            "annotator": {"type": "string", "minLength": 1},
            "verdict": reference("Verdict"),
            "presented": {"type": "array", "items": index},
            "origin": one_of(&ORIGINS),
            "rationale": optional(text()),
            "duration_ms": optional(natural()),
            "at": {"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX},
            "assignment": optional(text()),
            "revises": optional(text()),
            "guidelines": optional(json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})),
            "propensity": optional(json!({"type": "number"})),
            "item_hash": text(),
        })),
        "Added": object(&["added", "already_there"], json!({
            "added": natural(),
            "already_there": natural(),
        })),
    })
}

fn work_schemas() -> Value {
    let name = json!({"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"});
    let decision = json!({
        "id": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,64}$",
            "description": "Made by the client; sending the same judgement twice stores it once",
        },
        "verdict": reference("Verdict"),
        "rationale": optional(text()),
        "duration_ms": optional(natural()),
        "origin": one_of(&ORIGINS),
    });
    let blind_candidate = object(
        &["text", "steps", "media"],
        json!({"text": text(), "steps": texts(), "media": list("Media")}),
    );
    let assignment = object(
        &["id", "annotator", "presented", "expires_at"],
        json!({
            "id": text(),
            "annotator": text(),
            "presented": {"type": "array", "items": natural()},
            "expires_at": {"type": "integer"},
        }),
    );
    let blind_item = object(
        &["id", "task", "prompt", "media", "sensitive", "candidates"],
        json!({
            "id": text(),
            "task": one_of(&TASKS),
            "prompt": list("Message"),
            "media": list("Media"),
            "sensitive": {"type": "boolean"},
            "candidates": {"type": "array", "items": blind_candidate},
        }),
    );
    let nothing = object(
        &["assignment", "why", "sentence"],
        json!({"assignment": {"type": "null"}, "why": text(), "sentence": text()}),
    );
    json!({
        "Asking": object(&[], json!({
            "annotator": optional(name.clone()),
            "held": texts(),
        })),
        "Next": {"oneOf": [
            object(&["assignment", "item"], json!({"assignment": assignment, "item": blind_item})),
            nothing,
        ]},
        "Decision": object(&["id", "verdict"], decision),
        "Revision": object(&["judgement"], json!({
            "annotator": optional(name),
            "judgement": reference("Decision"),
        })),
        "Outcome": object(&["outcome"], json!({"outcome": one_of(&["stored", "already_there"])})),
    })
}

fn other_schemas() -> Value {
    let reasons = json!({"type": "array", "items": object(
        &["why", "count"],
        json!({"why": text(), "count": natural()}),
    )});
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let token = json!({
        "id": text(),
        "name": text(),
        "scopes": {"type": "array", "items": one_of(&scopes)},
        "created_at": {"type": "integer"},
    });
    let mut with_secret = token.clone();
    with_secret["secret"] = text();
    let counts = json!({
        "done": natural(), "held": natural(), "judged": natural(), "wanted": natural(),
    });
    json!({
        "Error": object(&["error"], json!({
            "error": object(&["status", "message"], json!({
                "status": {"type": "integer"},
                "message": text(),
            })),
        })),
        "Progress": object(&["items", "judgements", "annotators", "progress"], json!({
            "items": natural(),
            "judgements": natural(),
            "annotators": natural(),
            "progress": object(&["done", "held", "judged", "wanted"], counts),
        })),
        "Guidelines": object(&["version", "text"], json!({"version": natural(), "text": text()})),
        "ExportReport": object(&["format", "judgements", "written", "dropped", "lost"], json!({
            "format": text(),
            "judgements": natural(),
            "written": natural(),
            "dropped": reasons,
            "lost": reasons,
        })),
        "Imported": object(
            &["file", "items_added", "items_already_there", "judgements_added", "judgements_already_there"],
            json!({
                "file": free(),
                "items_added": natural(),
                "items_already_there": natural(),
                "judgements_added": natural(),
                "judgements_already_there": natural(),
            }),
        ),
        "Token": object(&["id", "name", "scopes", "created_at"], token),
        "TokenWithSecret": object(&["id", "name", "scopes", "created_at", "secret"], with_secret),
        "NewToken": object(&["name", "scopes"], json!({
            "name": {"type": "string", "minLength": 1, "maxLength": 100},
            "scopes": {"type": "array", "items": one_of(&scopes), "minItems": 1},
        })),
    })
}
