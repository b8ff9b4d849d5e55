//! `hearken template`, and the template where messages become tokens.

use serde_json::json;

use crate::support::{json_lines, model, run, write};

const INPUT: &str = r#"{"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true, "name": "Ada"}
{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
"#;
const TEMPLATE: &str = "{{ name }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn every_line_shows_what_the_model_sees_and_a_line_that_is_refused_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "in.jsonl", INPUT);
    let template = write(folder.path(), "mine.jinja", TEMPLATE);
    let output = folder.path().join("out.jsonl");
    let [model, input, template, out] =
        [model("llama"), input, template, output.clone()].map(|path| path.display().to_string());
    let with = |more: &[&str]| {
        let own = ["template", "--model", &model, "--input", &input, "--output", &out];
        run(own.iter().chain(more))
    };
    with(&["--template", &template, "--variable", "name=Bob"]).ok();
    let lines = json_lines(&output);
    // A line's own variable counts more.
    assert_eq!(lines[0]["text"], "Ada[user]Hi<|endoftext|>[assistant]");
    assert_eq!(lines[1]["text"], "Bob[user]Hi<|endoftext|>[assistant]Ho<|endoftext|>");
    let trained = lines[1]["loss_mask"].as_array().unwrap();
    assert_eq!(trained.len(), lines[1]["input_ids"].as_array().unwrap().len());
    assert_eq!(trained.last(), Some(&json!(1)));
    assert_eq!(trained[0], 0);

    let said = with(&[]).ok().stderr;
    assert!(said.contains("the model has no chat template"), "{said}");
    assert_eq!(json_lines(&output)[0]["text"], "\n\nHuman: Hi\n\nAssistant:");

    let bad = write(folder.path(), "bad.jinja", "a\n{{ raise_exception('Nobody speaks here') }}");
    let error = with(&["--template", &bad.display().to_string()]).error();
    assert!(error.contains("in.jsonl:1"), "{error}");
    assert!(
        error.contains("bad.jinja:2: the template refuses the conversation: Nobody"),
        "{error}"
    );
}
