/**
 * A model folder with an adapter, as small as they come: what the fuzz test breaks.
 */
import { Effect, Result } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Lora from "../../src/model/Lora.ts"
import * as ModelConfig from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"

const tokenizers = path.join(import.meta.dirname, "../fixtures/tokenizers")

const config = {
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  vocab_size: 640,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  hidden_act: "silu",
  bos_token_id: 1,
  eos_token_id: 2
}

const template = `{{ bos_token }}{% for message in messages %}{% if message['role'] not in ['user', 'assistant', 'system'] %}{{ raise_exception('unknown role') }}{% endif %}<|im_start|>{{ message.role }}
{{ message['content'] | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

/** The model's configuration. */
export const model = Result.getOrThrow(ModelConfig.fromJson(config, "config.json"))

/** Writes the folders of the model: `whole` with one weight file, `shards` with two, and `adapter`. */
export const write = Effect.fnUntraced(function* (dir: string, tokenizer: string) {
  const json = (file: string, value: unknown) => fs.writeFileSync(path.join(dir, file), JSON.stringify(value))
  for (const name of ["whole", "shards", "adapter"]) fs.mkdirSync(path.join(dir, name), { recursive: true })
  const tensors = Array.from(ModelConfig.parameters(model), ([name, shape], i) => ({
    name,
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.01 * (i + 1)),
    dtype: (["F32", "F16", "BF16"] as const)[i % 3]!
  }))
  for (const folder of ["whole", "shards"]) {
    json(`${folder}/config.json`, config)
    json(`${folder}/generation_config.json`, { eos_token_id: [2, 4], bos_token_id: 1, pad_token_id: 0 })
    fs.copyFileSync(path.join(tokenizers, tokenizer, "tokenizer.json"), path.join(dir, folder, "tokenizer.json"))
  }
  json("whole/tokenizer_config.json", {
    bos_token: "<s>",
    eos_token: { content: "</s>", lstrip: false, special: true },
    add_bos_token: true,
    chat_template: template
  })
  json("shards/tokenizer_config.json", {
    bos_token: "<s>",
    eos_token: "</s>",
    additional_special_tokens: ["<|im_start|>"]
  })
  fs.writeFileSync(path.join(dir, "shards/chat_template.jinja"), template)
  yield* Safetensors.write(path.join(dir, "whole/model.safetensors"), tensors)
  const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
  const half = tensors.length >> 1
  yield* Safetensors.write(path.join(dir, "shards", names[0]!), tensors.slice(0, half))
  yield* Safetensors.write(path.join(dir, "shards", names[1]!), tensors.slice(half))
  json("shards/model.safetensors.index.json", {
    metadata: { total_size: 1 },
    weight_map: Object.fromEntries(tensors.map(({ name }, i) => [name, names[i < half ? 0 : 1]]))
  })
  const adapter = Result.getOrThrow(
    Lora.init(model, { rank: 2, alpha: 4, targets: ["q_proj", "down_proj"], rankPattern: { down_proj: 1 } }, 1, {
      score: true
    })
  )
  yield* Lora.write(path.join(dir, "adapter"), adapter, "base")
})
