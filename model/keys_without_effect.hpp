// Keys of Hugging Face's config.json that say how other programs store, run or sample a model. They are accepted,
// listed, and have no effect. Those of the two configuration classes, and of the class that all configurations of
// transformers 4.39 to 5 come from, which writes all of its own into a full dump.
#pragma once

#include <string_view>

namespace tael {

inline constexpr std::string_view kKeysWithoutEffect[] = {
    // Where it is from, and how it is stored and run.
    "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "use_cache", "_name_or_path",
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_experts_implementation",
    "tokenizer_class", "torchscript", "use_bfloat16", "xla_device", "tf_legacy_loss", "output_attentions",
    "output_hidden_states", "output_router_logits", "return_dict", "chunk_size_feed_forward",
    // Of these models, but nothing that is computed here.
    "pad_token_id", "ep_size", "pretraining_tp", "seq_aux", "aux_loss_alpha", "head_dim", "qk_head_dim",
    // Of other models and tasks.
    "is_decoder", "is_encoder_decoder", "tie_encoder_decoder", "add_cross_attention", "cross_attention_hidden_size",
    "decoder_start_token_id", "sep_token_id", "pruned_heads", "prefix", "finetuning_task", "task_specific_params",
    "problem_type", "num_labels", "id2label", "label2id",
    // Of sampling; its top_k is taken out by leave_out_sampling.
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "num_return_sequences",
    "temperature", "top_p", "typical_p", "repetition_penalty", "length_penalty", "diversity_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
    "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "remove_invalid_values",
    "output_scores", "return_dict_in_generate"};

}  // namespace tael
