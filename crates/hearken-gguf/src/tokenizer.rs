//! Tokenizers: the header's lists of tokens, and tokenizer.json.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::error::GgufError;
use crate::file::{GgufFile, Value};

/// Types of tokens.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
const NORMAL: i32 = 1;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to cut texts into words before pairs of bytes are merged.
struct Cut {
    /// What `tokenizer.ggml.pre` calls it; the first is written.
    names: &'static [&'static str],
    steps: &'static [PreTokenizerStep],
    /// Whether a word that is a token is not merged.
    ignore_merges: bool,
    /// Whether characters are composed first.
    nfc: bool,
    /// Whether a text starts with the BOS token where the file does not say.
    bos: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PreTokenizerStep {
    Digits,
    Split(&'static str),
    /// Bytes as characters; with GPT-2's own pattern or without.
    Bytes(bool),
}

const CUTS: [Cut; 4] = [
    Cut {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "jais"],
        steps: &[PreTokenizerStep::Bytes(true)],
        ignore_merges: false,
        nfc: false,
        bos: false,
    },
    Cut {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        steps: &[PreTokenizerStep::Digits, PreTokenizerStep::Bytes(true)],
        ignore_merges: false,
        nfc: false,
        bos: false,
    },
    Cut {
        names: &["llama-bpe", "llama3", "llama-v3"],
        steps: &[PreTokenizerStep::Split(LLAMA3), PreTokenizerStep::Bytes(false)],
        ignore_merges: true,
        nfc: false,
        bos: true,
    },
    Cut {
        names: &["qwen2", "deepseek-r1-qwen", "kormo"],
        steps: &[PreTokenizerStep::Split(QWEN2), PreTokenizerStep::Bytes(false)],
        ignore_merges: false,
        nfc: true,
        bos: false,
    },
];

impl PreTokenizerStep {
    fn json(self) -> Json {
        match self {
            Self::Digits => json!({"type": "Digits", "individual_digits": true}),
            Self::Split(pattern) => json!({
                "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
            }),
            Self::Bytes(regex) => json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex,
            }),
        }
    }

    /// Whether a step of tokenizer.json does the same.
    fn is(self, step: &Json) -> bool {
        let own = self.json();
        let same = |key: &str| step[key] == own[key];
        match self {
            Self::Digits => same("type") && same("individual_digits"),
            Self::Split(_) => same("type") && same("pattern") && same("behavior") && same("invert"),
            Self::Bytes(_) => same("type") && same("add_prefix_space") && same("use_regex"),
        }
    }
}

/// The files of a tokenizer.
pub(crate) struct TokenizerFiles {
    pub(crate) tokenizer: Json,
    pub(crate) config: Json,
    pub(crate) generation: Json,
}

/// The ids of special tokens.
struct Special {
    bos: Option<usize>,
    eos: Option<usize>,
    /// What ends a turn, where that is another token.
    turn: Option<usize>,
    pad: Option<usize>,
    unknown: Option<usize>,
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The tokenizer of a file; `None` where it has none.
pub(crate) fn read(file: &GgufFile, context: usize) -> Result<Option<TokenizerFiles>, GgufError> {
    let Some(model) = file.text("tokenizer.ggml.model")? else { return Ok(None) };
    let tokens = file.list("tokenizer.ggml.tokens", "a list of texts", text)?.unwrap_or_default();
    if tokens.is_empty() {
        return Err(GgufError::malformed(file.path(), "key `tokenizer.ggml.tokens`: found none"));
    }
    let integer = |value: &Value| match value {
        Value::Integer(number) => i32::try_from(*number).ok(),
        _ => None,
    };
    let types = file.list("tokenizer.ggml.token_type", "a list of integers", integer)?;
    let types = types.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
    if types.len() != tokens.len() {
        return Err(GgufError::malformed(
            file.path(),
            format!("found {} tokens and types of {}", tokens.len(), types.len()),
        ));
    }
    let id = |name: &str| -> Result<Option<usize>, GgufError> {
        let found = file.count(&format!("tokenizer.ggml.{name}_token_id"))?;
        Ok(found.filter(|id| *id < tokens.len()))
    };
    let special = Special {
        bos: id("bos")?,
        eos: id("eos")?,
        turn: id("eot")?,
        pad: id("padding")?,
        unknown: id("unknown")?,
    };
    let (tokenizer, adds_bos) = match model {
        "gpt2" => of_bytes(file, &tokens, &special)?,
        "llama" => of_pieces(file, &tokens, &types, &special)?,
        other => {
            let what =
                format!("has a tokenizer of the kind {other:?}; expected \"gpt2\" or \"llama\"");
            return Err(GgufError::unsupported(file.path(), what));
        }
    };
    let mut tokenizer = tokenizer;
    tokenizer["added_tokens"] = added(&tokens, &types);
    let named = |id: Option<usize>| id.map_or(Json::Null, |id| tokens[id].into());
    let mut config = json!({
        "add_bos_token": adds_bos,
        "bos_token": named(special.bos),
        "eos_token": named(special.eos),
        "pad_token": named(special.pad),
        "unk_token": named(special.unknown),
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    if let Some(template) = file.text("tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    let mut ends: Vec<usize> = special.eos.into_iter().collect();
    ends.extend(special.turn.filter(|turn| !ends.contains(turn)));
    let generation = json!({
        "bos_token_id": special.bos,
        "eos_token_id": match ends.as_slice() { [one] => json!(one), all => json!(all) },
        "pad_token_id": special.pad,
    });
    Ok(Some(TokenizerFiles { tokenizer, config, generation }))
}

/// Tokens that stand for themselves in any text.
fn added(tokens: &[&str], types: &[i32]) -> Json {
    let is_added = |kind: i32| matches!(kind, UNKNOWN | CONTROL | USER_DEFINED);
    let all = tokens.iter().zip(types).enumerate();
    all.filter(|(_, (_, kind))| is_added(**kind))
        .map(|(id, (content, kind))| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != USER_DEFINED,
            })
        })
        .collect()
}

fn vocabulary(tokens: &[&str]) -> Json {
    let pairs = tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into()));
    Json::Object(pairs.collect::<Map<_, _>>())
}

/// Puts the BOS token before every text, or nothing.
fn post_processor(tokens: &[&str], bos: Option<usize>) -> Json {
    let Some(bos) = bos else { return Json::Null };
    let name = tokens[bos];
    let (start, text) = (
        json!({"SpecialToken": {"id": name, "type_id": 0}}),
        |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}}),
    );
    json!({
        "type": "TemplateProcessing",
        "single": [start, text("A", 0)],
        "pair": [start, text("A", 0), json!({"SpecialToken": {"id": name, "type_id": 1}}), text("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [bos], "tokens": [name]}},
    })
}

/// Pairs of bytes.
fn of_bytes(
    file: &GgufFile,
    tokens: &[&str],
    special: &Special,
) -> Result<(Json, bool), GgufError> {
    let name = file.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2");
    let cut = CUTS.iter().find(|cut| cut.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = CUTS.iter().flat_map(|cut| cut.names).copied().collect();
        GgufError::unsupported(
            file.path(),
            format!(
                "cuts texts as {name:?} (tokenizer.ggml.pre); expected one of {}",
                known.join(", ")
            ),
        )
    })?;
    let merges = file.list("tokenizer.ggml.merges", "a list of texts", text)?.unwrap_or_default();
    let adds_bos = file.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(cut.bos);
    let bos = special.bos.filter(|_| adds_bos);
    let steps: Vec<Json> = cut.steps.iter().map(|step| step.json()).collect();
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": if cut.nfc { json!({"type": "NFC"}) } else { Json::Null },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": post_processor(tokens, bos),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": cut.ignore_merges, "vocab": vocabulary(tokens), "merges": merges,
        },
    });
    Ok((json, bos.is_some()))
}

/// Pieces of SentencePiece: which pairs merge first follows from the scores of what they become.
fn of_pieces(
    file: &GgufFile,
    tokens: &[&str],
    types: &[i32],
    special: &Special,
) -> Result<(Json, bool), GgufError> {
    let number = |value: &Value| match value {
        Value::Float(number) => Some(*number),
        _ => None,
    };
    let scores =
        file.list("tokenizer.ggml.scores", "a list of numbers", number)?.unwrap_or_default();
    if scores.len() != tokens.len() {
        return Err(GgufError::malformed(
            file.path(),
            format!("found {} tokens and scores of {}", tokens.len(), scores.len()),
        ));
    }
    let merges = merges(tokens, types, &scores);
    let space = file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let adds_bos = file.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
    let bos = special.bos.filter(|_| adds_bos);
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let normalizers = if space { json!([prepend, replace]) } else { json!([replace]) };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": post_processor(tokens, bos),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null,
            "unk_token": special.unknown.map(|id| tokens[id]),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": types.contains(&BYTE), "ignore_merges": false,
            "vocab": vocabulary(tokens), "merges": merges,
        },
    });
    Ok((json, bos.is_some()))
}

/// Every pair of tokens that are a token together, the best first.
fn merges(tokens: &[&str], types: &[i32], scores: &[f64]) -> Vec<Json> {
    let is_piece = |id: usize| matches!(types[id], NORMAL | USER_DEFINED | UNUSED);
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| is_piece(*id))
        .map(|(id, token)| (*token, id))
        .collect();
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| is_piece(*id)) {
        let mut own: Vec<(usize, usize, usize)> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, id))
            })
            .collect();
        own.sort_unstable();
        pairs.extend(own);
    }
    // Stable, so that pairs of equal scores stay in the order of their tokens.
    pairs.sort_by(|a, b| scores[b.2].total_cmp(&scores[a.2]));
    pairs.into_iter().map(|(left, right, _)| json!([tokens[left], tokens[right]])).collect()
}

/// What the header of a written file says of a tokenizer.
pub(crate) struct TokenizerHeader {
    pub(crate) model: &'static str,
    pub(crate) cut: Option<&'static str>,
    pub(crate) tokens: Vec<String>,
    pub(crate) types: Vec<i32>,
    pub(crate) scores: Option<Vec<f32>>,
    pub(crate) merges: Option<Vec<String>>,
    pub(crate) space: Option<bool>,
    pub(crate) ids: BTreeMap<String, usize>,
}

/// tokenizer.json in the words of GGUF; the vocabulary is filled up to `rows`, those of the embedding.
pub(crate) fn written(path: &Path, json: &Json, rows: usize) -> Result<TokenizerHeader, GgufError> {
    let model = &json["model"];
    let vocabulary = model["vocab"].as_object().filter(|_| model["type"] == "BPE");
    let Some(vocabulary) = vocabulary else {
        let found = model["type"].as_str().unwrap_or("no model");
        let what = format!("found a tokenizer of the kind {found}, expected BPE");
        return Err(GgufError::unsupported(path, what));
    };
    let is_pieces = model["byte_fallback"] == true;
    let (ids, kinds) = all_tokens(json, vocabulary, rows);
    if let Some((token, id)) = ids.iter().find(|(_, id)| rows <= **id) {
        let what = format!("token {token:?} has the id {id}, and the embedding {rows} rows");
        return Err(GgufError::malformed(path, what));
    }
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![UNUSED; rows];
    for (token, &id) in &ids {
        let is_byte =
            is_pieces && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        types[id] = kinds.get(&id).copied().unwrap_or(if is_byte { BYTE } else { NORMAL });
        tokens[id].clone_from(token);
    }
    let pairs = pairs_of(model);
    let mut written = TokenizerHeader {
        model: "gpt2",
        cut: None,
        tokens,
        types,
        scores: None,
        merges: None,
        space: None,
        ids,
    };
    if is_pieces {
        // Pieces merge by the score of what they become: the earlier its first pair, the higher.
        let mut scores = vec![-(pairs.len() as f32) - 1.0; rows];
        for (rank, (left, right)) in pairs.iter().enumerate().rev() {
            if let Some(&id) = written.ids.get(&format!("{left}{right}")) {
                scores[id] = -(rank as f32);
            }
        }
        let prepends = json["normalizer"].to_string().contains("\"Prepend\"")
            || json["pre_tokenizer"]["prepend_scheme"].as_str().is_some_and(|how| how != "never");
        written.model = "llama";
        written.scores = Some(scores);
        written.space = Some(prepends);
        return Ok(written);
    }
    written.cut = Some(cut_of(path, json)?);
    written.merges =
        Some(pairs.into_iter().map(|(left, right)| format!("{left} {right}")).collect());
    Ok(written)
}

/// The ids of all tokens, and the types of those that were added.
fn all_tokens(
    json: &Json,
    vocabulary: &Map<String, Json>,
    rows: usize,
) -> (BTreeMap<String, usize>, HashMap<usize, i32>) {
    let model = &json["model"];
    let id = |id: &Json| id.as_u64().and_then(|id| usize::try_from(id).ok()).unwrap_or(rows);
    let mut ids: BTreeMap<String, usize> =
        vocabulary.iter().map(|(token, found)| (token.clone(), id(found))).collect();
    let mut kinds = HashMap::new();
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let Some(content) = added["content"].as_str() else { continue };
        let is_unknown = model["unk_token"] == content && model["byte_fallback"] == true;
        let kind = match (added["special"] == true, is_unknown) {
            (_, true) => UNKNOWN,
            (true, _) => CONTROL,
            (false, _) => USER_DEFINED,
        };
        kinds.insert(id(&added["id"]), kind);
        ids.insert(content.to_owned(), id(&added["id"]));
    }
    (ids, kinds)
}

/// The pairs that merge, the first ones first; written as texts or as lists of two.
fn pairs_of(model: &Json) -> Vec<(String, String)> {
    let all = model["merges"].as_array().into_iter().flatten();
    all.filter_map(|merge| match merge {
        Json::String(text) => text.split_once(' ').map(|(a, b)| (a.into(), b.into())),
        Json::Array(pair) => match pair.as_slice() {
            [Json::String(a), Json::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    })
    .collect()
}

/// What llama.cpp calls the way in which tokenizer.json cuts texts.
fn cut_of(path: &Path, json: &Json) -> Result<&'static str, GgufError> {
    let pre = &json["pre_tokenizer"];
    let steps = match pre["pretokenizers"].as_array() {
        Some(steps) => steps.iter().collect::<Vec<_>>(),
        None => vec![pre],
    };
    let fits = |cut: &&Cut| {
        cut.steps.len() == steps.len()
            && cut.steps.iter().zip(&steps).all(|(own, step)| own.is(step))
    };
    CUTS.iter().find(fits).map(|cut| cut.names[0]).ok_or_else(|| {
        let known: Vec<&str> = CUTS.iter().map(|cut| cut.names[0]).collect();
        GgufError::unsupported(
            path,
            format!(
                "cuts texts in a way that GGUF has no name for here; expected that of {}",
                known.join(", ")
            ),
        )
    })
}
