/**
 * The files of the sandbox model's folder that are not weights: an ordinary Hugging Face model folder, and the
 * constitution in Charter's own format.
 */
import * as Principles from "./Principles.ts"
import { marker, markers } from "./Transcript.ts"
import { markerId, tokens } from "./Vocabulary.ts"

/** The longest transcript, in tokens. The longest document of the corpus has about 170. */
const contextLength = 192

const begin = marker.end
const id = { begin: markerId(begin), end: markerId(marker.end), pad: markerId(marker.pad) }

/**
 * `tokenizer.json`: byte-level BPE that has no merges and needs none, because `ignore_merges` takes a whole word that
 * is in the vocabulary as it is, and anything else falls apart into bytes.
 */
export const tokenizer = () => ({
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: markers.map((content, i) => ({
    id: i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true
  })),
  normalizer: null,
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: " ?[^ \\n]+" }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false }
    ]
  },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [
      { SpecialToken: { id: begin, type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { Sequence: { id: "B", type_id: 0 } }
    ],
    special_tokens: { [begin]: { id: begin, ids: [id.begin], tokens: [begin] } }
  },
  decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  model: {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: true,
    vocab: Object.fromEntries(tokens.map((token, i) => [token, i])),
    merges: []
  }
})

/** `tokenizer_config.json`. Cleaning up would join the marks to the words before them. */
export const tokenizerConfig = () => ({
  tokenizer_class: "PreTrainedTokenizerFast",
  bos_token: begin,
  eos_token: marker.end,
  pad_token: marker.pad,
  additional_special_tokens: markers.filter((text) => text !== marker.end && text !== marker.pad),
  add_bos_token: true,
  add_eos_token: false,
  clean_up_tokenization_spaces: false,
  model_max_length: contextLength
})

/** `config.json`: a small Llama. */
export const config = () => ({
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: tokens.length,
  hidden_size: 128,
  intermediate_size: 344,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  head_dim: 32,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: null,
  attention_bias: false,
  attention_dropout: 0,
  mlp_bias: false,
  initializer_range: 0.02,
  max_position_embeddings: contextLength,
  tie_word_embeddings: true,
  use_cache: true,
  bos_token_id: id.begin,
  eos_token_id: id.end,
  pad_token_id: id.pad
})

/** `generation_config.json`: generation stops at any marker, because a role never speaks for another one. */
export const generationConfig = () => ({
  bos_token_id: id.begin,
  eos_token_id: markers.map((_, i) => i),
  pad_token_id: id.pad,
  do_sample: true,
  temperature: 1
})

const entries = (letter: string, fields: ReadonlyArray<Readonly<Record<string, string>>>) =>
  fields.flatMap((field, i) => [
    `  - id: ${letter}${i}`,
    ...Object.entries(field).map(([name, text]) => `    ${name}: ${text}`)
  ])

/** `constitution.yaml`. The texts hold nothing that YAML would read as anything but text. */
export const constitution = (): string => {
  const lines = [
    "name: sandbox",
    "revision:",
    ...entries(
      "r",
      Principles.principles.map((p) => ({ critique: p.critiqueRequest, revision: p.revisionRequest }))
    ),
    "comparison:",
    ...entries(
      "c",
      Principles.principles.map((p) => ({ principle: p.comparison }))
    ),
    "helpfulness:",
    ...entries(
      "h",
      Principles.helpfulness.map((principle) => ({ principle }))
    )
  ]
  return `${lines.join("\n")}\n`
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

/** The text of every file, by name. */
export const files = (): Readonly<Record<string, string>> => ({
  "tokenizer.json": json(tokenizer()),
  "tokenizer_config.json": json(tokenizerConfig()),
  "config.json": json(config()),
  "generation_config.json": json(generationConfig()),
  "constitution.yaml": constitution()
})
