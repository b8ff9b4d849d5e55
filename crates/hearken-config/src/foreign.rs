//! What keys of other tools are called here.

/// The trainers, whose sections have their names.
const TRAINERS: [&str; 5] = ["sft", "reward", "dpo", "ppo", "grpo"];

/// Names of other tools with the keys that mean the same, of which the first that a trainer has is
/// named; and what to know besides.
const SAME: &[(&[&str], &[&str], &str)] = &[
    (&["learning_rate", "lr_rate", "peak_lr"], &["optimizer.lr"], ""),
    (
        &[
            "batch_size",
            "per_device_train_batch_size",
            "train_batch_size",
            "global_batch_size",
            "mini_batch_size",
            "micro_batch_size",
            "per_device_batch_size",
        ],
        &["train.batch_size"],
        ", the examples of an optimizer step",
    ),
    (&["num_train_epochs", "num_epochs", "n_epochs", "total_epochs"], &["train.epochs"], ""),
    (
        &["max_steps", "num_steps", "total_steps", "max_iters", "num_training_steps", "iterations"],
        &["train.steps"],
        "",
    ),
    (
        &["num_ppo_epochs", "ppo_epochs", "num_iterations"],
        &["ppo.epochs", "grpo.epochs", "online.epochs"],
        "",
    ),
    (&["num_mini_batches"], &["ppo.minibatches", "grpo.minibatches", "online.minibatches"], ""),
    (&["warmup_ratio"], &["optimizer.warmup_steps"], "; below 1 it is a share of the run"),
    (&["warmup", "num_warmup_steps", "lr_warmup_steps"], &["optimizer.warmup_steps"], ""),
    (
        &["lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule", "lr_decay_style"],
        &["optimizer.schedule"],
        "",
    ),
    (
        &[
            "gradient_clipping",
            "clip_grad",
            "grad_clip",
            "max_gradient_norm",
            "gradient_clip_val",
            "max_norm",
        ],
        &["optimizer.max_grad_norm"],
        "",
    ),
    (&["adam_beta1", "adam_beta2", "beta1", "beta2"], &["optimizer.betas"], ", a list of both"),
    (&["adam_epsilon", "epsilon_adam"], &["optimizer.eps"], ""),
    (&["logging_steps", "log_interval", "log_freq"], &["train.log_every"], ""),
    (
        &["save_steps", "save_interval", "save_freq", "checkpoint_every", "checkpoint_interval"],
        &["train.save_every"],
        "",
    ),
    (&["eval_steps", "eval_interval", "evaluation_steps"], &["train.eval_every"], ""),
    (&["output_dir", "save_dir", "out_dir", "output"], &["run.dir"], ""),
    (
        &[
            "model_name_or_path",
            "model_name",
            "base_model",
            "pretrained_model",
            "model_id",
            "policy_model_path",
            "actor_model_path",
        ],
        &["model.path"],
        ", a folder",
    ),
    (
        &["torch_dtype", "precision", "bf16", "fp16", "mixed_precision"],
        &["model.dtype"],
        ": \"f32\" or \"bf16\"",
    ),
    (&["gradient_checkpointing", "activation_checkpointing"], &["model.recompute"], ""),
    (
        &[
            "dataset",
            "dataset_name",
            "train_file",
            "train_files",
            "dataset_path",
            "train_data",
            "data_path",
        ],
        &["data.train"],
        ", files on this machine",
    ),
    (
        &["eval_file", "validation_file", "eval_dataset", "val_data", "val_files"],
        &["data.eval"],
        "",
    ),
    (&["val_size", "test_size", "validation_split", "val_set_size"], &["data.eval_fraction"], ""),
    (
        &[
            "max_length",
            "max_seq_length",
            "max_seq_len",
            "seq_length",
            "sequence_len",
            "cutoff_len",
            "max_prompt_length",
            "model_max_length",
            "block_size",
        ],
        &["data.max_tokens"],
        ", with data.truncation for what is longer",
    ),
    (&["max_samples", "max_train_samples", "num_samples"], &["data.limit"], ""),
    (
        &[
            "num_generations",
            "num_return_sequences",
            "group_size",
            "n_samples_per_prompt",
            "rollout_n",
            "num_completions",
        ],
        &["rollout.completions"],
        "",
    ),
    (
        &[
            "max_completion_length",
            "response_length",
            "max_response_length",
            "max_new_token",
            "generate_max_len",
            "max_gen_len",
        ],
        &["rollout.max_new_tokens", "samples.max_new_tokens"],
        "",
    ),
    (&["stop_strings", "stop_sequences", "stop_token"], &["rollout.stop"], ""),
    (&["beta"], &["dpo.beta", "kl.beta"], ""),
    (
        &[
            "kl_coef",
            "init_kl_coef",
            "init_kl_coeff",
            "kl_coeff",
            "kl_loss_coef",
            "kl_penalty_coef",
            "kl_ctl",
        ],
        &["kl.beta"],
        "",
    ),
    (&["kl_target", "target_kl"], &["kl.target"], ""),
    (
        &["cliprange", "clip_range", "clip_ratio", "epsilon", "clip_eps", "eps_clip", "clip_coef"],
        &["ppo.clip_low", "grpo.clip_low"],
        ", with clip_high beside it",
    ),
    (
        &["epsilon_high", "clip_ratio_high", "eps_clip_high"],
        &["ppo.clip_high", "grpo.clip_high"],
        "",
    ),
    (&["cliprange_value", "vf_clip", "clip_range_vf", "value_clip_range"], &["ppo.value_clip"], ""),
    (&["vf_coef", "value_loss_coef", "vf_loss_coef"], &["ppo.value_coef"], ""),
    (
        &["ent_coef", "entropy_coeff", "entropy_beta"],
        &["ppo.entropy_coef", "grpo.entropy_coef"],
        "",
    ),
    (&["lam", "lambd", "gae_lam"], &["ppo.gae_lambda"], ""),
    (&["whiten_rewards", "whiten"], &["ppo.whiten_advantages"], ""),
    (
        &["missing_eos_penalty"],
        &["ppo.missing_end_penalty", "grpo.missing_end_penalty", "online.missing_end_penalty"],
        "",
    ),
    (
        &[
            "reward_model_path",
            "reward_model",
            "reward_pretrain",
            "reward_funcs",
            "reward_function",
        ],
        &["score.kind"],
        ": every source of scores is a table under a line [[score]]",
    ),
    (&["loss_type"], &["dpo.loss", "grpo.preset"], ""),
    (&["scale_rewards"], &["grpo.advantage"], ""),
    (&["ref_model", "ref_model_path", "reference_model"], &["dpo.reference"], ""),
    (
        &["api_key", "apikey", "openai_api_key", "api_token", "token", "auth_token"],
        &["judge.key_env"],
        ", the name of the environment variable that has the key; the key itself never stands in a configuration",
    ),
    (
        &[
            "completion_only_loss",
            "train_on_inputs",
            "train_on_prompt",
            "assistant_only_loss",
            "mask_prompt",
        ],
        &["data.completion_only"],
        "",
    ),
    (&["random_seed", "data_seed"], &["run.seed"], ""),
    (
        &[
            "dataset_mixer",
            "dataset_weights",
            "interleave_probs",
            "data_mix",
            "mixture",
            "datasets",
        ],
        &["data.mix", "data.mix.path"],
        ", a table with path and weight for each source",
    ),
    (&["load_best_model_at_end"], &["train.keep_best"], ""),
    (
        &["patience", "early_stopping", "early_stopping_rounds", "early_stop_patience"],
        &["train.early_stopping_patience"],
        ", a number of evaluations",
    ),
    (
        &["monitor", "metric", "best_metric", "early_stopping_metric"],
        &["train.metric_for_best_model"],
        "",
    ),
];

/// Names of other tools for what has no key here.
const NONE: &[(&[&str], &str)] = &[
    (
        &[
            "gradient_accumulation_steps",
            "accumulate_grad_batches",
            "grad_accum",
            "gradient_accumulation",
        ],
        "none is needed: `train.batch_size` is what an optimizer step sees, and it is cut into \
         microbatches by itself (`train.microbatch_tokens`, `run.memory_limit_gb`)",
    ),
    (
        &[
            "api_key",
            "apikey",
            "openai_api_key",
            "api_token",
            "token",
            "auth_token",
            "secret",
            "hf_token",
            "password",
        ],
        "a secret never stands in a configuration, which the run directory keeps; programs see the \
         environment",
    ),
    (
        &["optim", "optimizer_name", "optimizer_type"],
        "the optimizer is AdamW; section [optimizer] has its numbers",
    ),
    (
        &["deepspeed", "fsdp", "num_gpus", "local_rank", "n_gpu", "tensor_parallel_size"],
        "a run is one process on one machine",
    ),
    (
        &["load_in_8bit", "load_in_4bit", "quantization", "quantization_config", "use_qlora"],
        "weights are f32, or read as bf16 with `model.dtype`",
    ),
    (
        &["report_to", "wandb_project", "use_wandb", "wandb", "tracker"],
        "a run writes metrics.jsonl, and `hearken report` draws it; `log.tensorboard` writes event files",
    ),
    (&["packing", "group_by_length", "sample_packing"], "none is needed: batches have no padding"),
];

/// The sections, or trainers, in which `key` is one of another tool's: what to write instead.
pub(super) fn answer(command: &str, key: &str, known: &[String]) -> Option<String> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let key = key.as_str();
    if TRAINERS.contains(&key) {
        return Some(format!(
            "section [{key}] is read by `hearken {key}`, and this is `hearken {command}`"
        ));
    }
    let same =
        SAME.iter().filter(|(names, _, _)| names.contains(&key)).find_map(|(_, ours, note)| {
            let has = |path: &&str| known.iter().any(|known| is_path(known, path));
            let path = ours.iter().copied().find(has)?;
            Some(format!("here it is `{path}`{note}"))
        });
    same.or_else(|| {
        let (_, why) = NONE.iter().find(|(names, _)| names.contains(&key))?;
        Some((*why).to_owned())
    })
}

/// Whether a path is `ours`, perhaps of a stage.
fn is_path(known: &str, ours: &str) -> bool {
    known.strip_suffix(ours).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Where a key stands that is known, but not here.
pub(super) fn elsewhere(command: &str, key: &str, known: &[String]) -> Option<String> {
    let name = |path: &String| path.rsplit_once('.').is_some_and(|(_, name)| name == key);
    let found: Vec<&str> =
        known.iter().filter(|path| name(path)).take(3).map(String::as_str).collect();
    if !found.is_empty() {
        return Some(format!("`{}` is known", found.join("`, `")));
    }
    let of = match key {
        "rollout" | "score" | "kl" => "ppo and grpo",
        "online" | "judge" => "dpo",
        "samples" => "every trainer but reward",
        "quickstart" | "evaluation" => "rlhf",
        _ => return None,
    };
    Some(format!("section [{key}] is one of {of}, and this is `hearken {command}`"))
}
