//! What keys of other tools are called here.

/// The trainers, whose sections have their names.
const TRAINERS: [&str; 5] = ["sft", "reward", "dpo", "ppo", "grpo"];

/// Names of other tools with the keys that mean the same, of which the first that a trainer has is
/// named; and what to know besides.
const SAME: &[(&[&str], &[&str], &str)] = &[
    (
        &["learning_rate", "lr_rate", "peak_lr", "actor_learning_rate", "actor_lr"],
        &["optimizer.lr"],
        "",
    ),
    (
        &[
            "batch_size",
            "per_device_train_batch_size",
            "train_batch_size",
            "global_batch_size",
            "mini_batch_size",
            "micro_batch_size",
            "per_device_batch_size",
            "micro_train_batch_size",
            "train_micro_batch_size_per_gpu",
            "ppo_mini_batch_size",
        ],
        &["train.batch_size"],
        ", the examples of an optimizer step",
    ),
    (
        &["rollout_batch_size", "gen_batch_size", "num_prompts", "prompts_per_step"],
        &["grpo.prompts", "train.batch_size"],
        "",
    ),
    (
        &[
            "eval_batch_size",
            "per_device_eval_batch_size",
            "micro_rollout_batch_size",
            "ppo_micro_batch_size_per_gpu",
            "log_prob_micro_batch_size_per_gpu",
            "ppo_max_token_len_per_gpu",
            "eval_micro_batch_size",
        ],
        &["train.microbatch_tokens"],
        ", which sizes itself",
    ),
    (
        &[
            "num_train_epochs",
            "num_epochs",
            "n_epochs",
            "total_epochs",
            "max_epochs",
            "num_episodes",
        ],
        &["train.epochs"],
        "",
    ),
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
        &[
            "save_steps",
            "save_interval",
            "save_freq",
            "checkpoint_every",
            "checkpoint_interval",
            "save_strategy",
            "saves_per_epoch",
        ],
        &["train.save_every"],
        "",
    ),
    (
        &[
            "eval_steps",
            "eval_interval",
            "evaluation_steps",
            "eval_strategy",
            "evaluation_strategy",
            "evals_per_epoch",
            "eval_freq",
            "test_freq",
        ],
        &["train.eval_every"],
        ", in optimizer steps",
    ),
    (
        &[
            "output_dir",
            "save_dir",
            "out_dir",
            "output",
            "save_path",
            "ckpt_path",
            "checkpoint_dir",
            "default_local_dir",
            "logging_dir",
            "run_name",
            "experiment_name",
        ],
        &["run.dir"],
        "",
    ),
    (
        &[
            "model_name_or_path",
            "model_name",
            "pretrain",
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
            "prompt_data",
            "dataset_dir",
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
            "prompt_max_len",
            "max_len",
            "model_max_length",
            "block_size",
        ],
        &["data.max_tokens"],
        ", with data.truncation for what is longer",
    ),
    (
        &["filter_overlong_prompts", "truncation_mode", "truncation_side", "truncate"],
        &["data.truncation"],
        "",
    ),
    (
        &[
            "input_key",
            "output_key",
            "label_key",
            "prompt_key",
            "chosen_key",
            "rejected_key",
            "prompt_column",
            "text_column",
            "text_field",
            "dataset_text_field",
            "column_mapping",
        ],
        &["data.columns"],
        ", as { prompt = \"question\" }",
    ),
    (&["max_samples", "max_train_samples", "num_samples"], &["data.limit"], ""),
    (
        &[
            "lora_r",
            "lora_rank",
            "lora_dim",
            "use_lora",
            "use_peft",
            "peft",
            "peft_config",
            "lora_config",
            "finetuning_type",
        ],
        &["lora.r"],
        ", which makes the run train an adapter",
    ),
    (&["lora_alpha"], &["lora.alpha"], ""),
    (&["lora_dropout"], &["lora.dropout"], ""),
    (
        &[
            "lora_target_modules",
            "lora_target",
            "lora_target_linear",
            "target_modules",
            "lora_modules",
        ],
        &["lora.targets"],
        "",
    ),
    (&["use_rslora"], &["lora.rslora"], ""),
    (
        &["adapter_name_or_path", "adapter_path", "lora_path", "peft_path", "lora_model_dir"],
        &["lora.init"],
        ", to train it on; `model.adapter` merges one",
    ),
    (
        &["chat_template", "chat_template_path", "chat_template_jinja", "chat_template_name"],
        &["template.file"],
        " or `template.name`; without them it is the model's own",
    ),
    (
        &["freeze_trainable_layers", "freeze_layers", "frozen_layers", "unfrozen_parameters"],
        &["model.freeze"],
        "",
    ),
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
    (&["beta", "pref_beta", "dpo_beta"], &["dpo.beta", "kl.beta"], ""),
    (&["use_kl_loss", "use_kl_in_reward"], &["kl.placement"], ""),
    (&["kl_estimator", "kl_loss_type", "kl_penalty", "kl_type"], &["kl.estimator"], ""),
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
        &[
            "cliprange",
            "clip_range",
            "clip_ratio",
            "epsilon",
            "clip_eps",
            "eps_clip",
            "clip_coef",
            "clip_ratio_low",
            "eps_clip_low_high",
        ],
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
        &["ent_coef", "entropy_coeff", "entropy_beta", "entropy_loss_coef"],
        &["ppo.entropy_coef", "grpo.entropy_coef"],
        "",
    ),
    (&["lam", "lambd", "gae_lam"], &["ppo.gae_lambda"], ""),
    (&["whiten_rewards", "whiten"], &["ppo.whiten_advantages"], ""),
    (&["critic_learning_rate", "value_lr"], &["ppo.critic_lr"], ""),
    (&["critic", "critic_pretrain", "value_model"], &["ppo.critic"], ""),
    (
        &["normalize_reward", "reward_normalization", "normalize_rewards"],
        &["ppo.normalize_scores", "grpo.normalize_scores", "online.normalize_scores"],
        "",
    ),
    (&["dynamic_filtering", "filter_groups", "dynamic_sampling"], &["grpo.groups"], ""),
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
            "reward_fn",
            "custom_reward_function",
            "remote_rm_url",
            "rm_path",
        ],
        &["score.kind"],
        ": every source of scores is a table under a line [[score]]",
    ),
    (&["loss_type", "pref_loss", "dpo_loss"], &["dpo.loss", "grpo.preset"], ""),
    (&["adv_estimator", "advantage_estimator"], &["grpo.preset", "ppo.gae_lambda"], ""),
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
    (&["ema_decay", "use_ema", "ema_beta", "model_ema"], &["train.ema"], ", the decay"),
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
        &[
            "deepspeed",
            "fsdp",
            "fsdp_config",
            "num_gpus",
            "local_rank",
            "n_gpu",
            "tensor_parallel_size",
            "zero_stage",
            "adam_offload",
            "ddp_timeout",
            "ddp_find_unused_parameters",
            "colocate_all_models",
            "n_gpus_per_node",
            "nnodes",
            "world_size",
            "ray_init",
            "device_map",
        ],
        "a run is one process on one machine",
    ),
    (
        &[
            "load_in_8bit",
            "load_in_4bit",
            "quantization",
            "quantization_config",
            "quantization_bit",
            "use_qlora",
            "bnb_4bit_compute_dtype",
            "bnb_4bit_quant_type",
        ],
        "`model.base` = \"int8\" holds the frozen base of [lora] in eight bits, and `model.dtype` says what \
         products read",
    ),
    (
        &["report_to", "wandb_project", "use_wandb", "wandb", "tracker"],
        "a run writes metrics.jsonl, and `hearken report` draws it; `log.tensorboard` writes event files",
    ),
    (
        &[
            "packing",
            "group_by_length",
            "sample_packing",
            "pad_to_sequence_len",
            "pad_to_multiple_of",
            "padding_side",
            "padding_free",
        ],
        "none is needed: batches have no padding",
    ),
    (
        &["stage", "rl", "do_train", "do_eval", "task_type", "training_type"],
        "the command says what is trained: `hearken sft`, `reward`, `dpo`, `ppo` or `grpo`",
    ),
    (
        &[
            "overwrite_output_dir",
            "overwrite_cache",
            "resume",
            "resume_from_checkpoint",
            "auto_resume",
            "resume_mode",
            "load_checkpoint",
        ],
        "none is needed: the same command goes on from the last checkpoint, and `--fresh` starts anew",
    ),
    (
        &["save_total_limit", "max_ckpt_to_keep", "max_actor_ckpt_to_keep", "save_only_model"],
        "none is needed: the last checkpoint is kept, and with `train.keep_best` the best model",
    ),
    (
        &[
            "flash_attention",
            "flash_attn",
            "attn_implementation",
            "xformers_attention",
            "sdp_attention",
            "tf32",
            "use_liger_kernel",
            "use_unsloth",
            "torch_compile",
        ],
        "none is needed: there is one implementation, and it takes the best kernels that the processor has",
    ),
    (
        &[
            "use_vllm",
            "vllm_mode",
            "vllm_gpu_memory_utilization",
            "vllm_num_engines",
            "vllm_tensor_parallel_size",
            "vllm_server_host",
        ],
        "none is needed: the trainer samples by itself, from the weights that it trains",
    ),
    (
        &[
            "dataloader_num_workers",
            "preprocessing_num_workers",
            "dataset_num_proc",
            "num_workers",
            "dataloader_pin_memory",
            "remove_unused_columns",
            "dataset_prepared_path",
        ],
        "none is needed: records are read once, and columns that nobody reads are left alone",
    ),
    (
        &["push_to_hub", "hub_model_id", "hub_strategy", "hub_token"],
        "nothing is uploaded: final/ in the run directory is a folder as the hub has them",
    ),
    (
        &["trust_remote_code"],
        "no code of a model is run: architectures are those that the program knows",
    ),
    (
        &[
            "tokenizer",
            "tokenizer_type",
            "tokenizer_name",
            "tokenizer_name_or_path",
            "special_tokens",
            "use_fast_tokenizer",
        ],
        "the tokenizer is the one in the folder of the model",
    ),
    (&["model_type"], "config.json in the folder of the model says its architecture"),
    (
        &["apply_chat_template"],
        "none is needed: `messages` are rendered by the model's chat template, texts are taken as they are",
    ),
    (&["plot_loss"], "`hearken report` draws the curves of a run"),
    (
        &["save_hf_ckpt", "save_safetensors"],
        "none is needed: a model is saved as a Hugging Face directory",
    ),
    (
        &["ref_model", "ref_model_path", "reference_model"],
        "the reference is the model that the run starts from",
    ),
    (
        &["trainer", "training", "training_args", "training_arguments"],
        "sections [run], [train] and [optimizer] have such keys",
    ),
    (
        &["actor_rollout_ref", "actor", "policy"],
        "sections [model], [optimizer], [rollout] and [kl] are about the policy",
    ),
    (&["algorithm"], "the section of the trainer's name, as [grpo], and [kl] say what it computes"),
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
    let meant = || SAME.iter().filter(|(names, _, _)| names.contains(&key));
    let same = meant().find_map(|(_, ours, note)| {
        let has = |path: &&str| known.iter().any(|known| is_path(known, path));
        let path = ours.iter().copied().find(has)?;
        Some(format!("here it is `{path}`{note}"))
    });
    same.or_else(|| {
        let (_, why) = NONE.iter().find(|(names, _)| names.contains(&key))?;
        Some((*why).to_owned())
    })
}

/// What other trainers call what `key` is in other tools.
pub(super) fn of_others(command: &str, key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let mut meant = SAME.iter().filter(|(names, ..)| names.contains(&key.as_str()));
    let path = meant.find_map(|(_, ours, _)| ours.first())?;
    let of = trainers_with(path.split('.').next().unwrap_or_default())?;
    Some(format!("`{path}` means that, which is a key of {of}, and this is `hearken {command}`"))
}

/// Whether a path is `ours`, perhaps of a stage.
fn is_path(known: &str, ours: &str) -> bool {
    known.strip_suffix(ours).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Where a key stands that is known, but not here.
pub(super) fn elsewhere(key: &str, known: &[String]) -> Option<String> {
    let name = |path: &String| path.rsplit_once('.').is_some_and(|(_, name)| name == key);
    let found: Vec<&str> =
        known.iter().filter(|path| name(path)).take(3).map(String::as_str).collect();
    (!found.is_empty()).then(|| format!("`{}` is known", found.join("`, `")))
}

/// What is to be said of a section that other trainers have.
pub(super) fn section(command: &str, key: &str) -> Option<String> {
    let of = trainers_with(key)?;
    Some(format!("section [{key}] is one of {of}, and this is `hearken {command}`"))
}

fn trainers_with(section: &str) -> Option<&'static str> {
    Some(match section {
        "rollout" | "score" | "kl" => "ppo and grpo",
        "online" | "judge" | "dpo" => "dpo",
        "ppo" => "ppo",
        "grpo" => "grpo",
        "samples" => "every trainer but reward",
        "quickstart" | "evaluation" => "rlhf",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_tools_are_answered_with_what_is_there() {
        let known = ["optimizer.lr", "lora.r", "kl.beta", "stage.kl.placement"].map(str::to_owned);
        for (key, expected) in [
            ("learning_rate", "here it is `optimizer.lr`"),
            ("Lora-Rank", "here it is `lora.r`"),
            ("use_kl_loss", "here it is `kl.placement`"),
            ("pref_beta", "here it is `kl.beta`"),
            ("rl", "the command says what is trained"),
            ("load_in_4bit", "`model.base` = \"int8\""),
            ("actor_rollout_ref", "sections [model]"),
            ("overwrite_output_dir", "goes on from the last checkpoint"),
            ("dpo", "section [dpo] is read by `hearken dpo`, and this is `hearken sft`"),
        ] {
            let found = answer("sft", key, &known).unwrap_or_default();
            assert!(found.contains(expected), "{key}: {found}");
        }
        assert_eq!(answer("sft", "colour", &known), None);
        assert_eq!(
            of_others("sft", "vf_coef").unwrap(),
            "`ppo.value_coef` means that, which is a key of ppo, and this is `hearken sft`"
        );
    }

    /// A name stands once, so that one answer is given.
    #[test]
    fn a_name_has_one_answer() {
        let names: Vec<_> = SAME.iter().flat_map(|(names, _, _)| *names).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
