/**
 * transformers.js: --batch prompts of --length tokens continued by --tokens at temperature 1, on the CPU. Units: tokens.
 * The model is a folder with `config.json`, the tokenizer's files and `onnx/model.onnx`, as the hub has them; one is
 * exported from a checkpoint by optimum, which wants another transformers than the peers in Python:
 *
 *     npm install --prefix /tmp/peers-node --ignore-scripts @huggingface/transformers@4
 *     python -m venv /tmp/export && /tmp/export/bin/pip install optimum-onnx[onnxruntime]
 *     /tmp/export/bin/optimum-cli export onnx --model MODEL --task text-generation-with-past FOLDER
 *     mkdir FOLDER/onnx && mv FOLDER/model.onnx FOLDER/onnx
 *     node bench/peers/transformers-js.mjs FOLDER --modules /tmp/peers-node [--batch 8] [--length 64] [--tokens 64]
 */
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import * as Turns from "./turns.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { modules: { type: "string" }, precision: { type: "string", default: "fp32" }, ...Turns.options }
})
const [batch, length, tokens] = [values.batch, values.length, values.tokens].map(Number)
const folder = resolve(values.modules ?? ".", "node_modules/@huggingface/transformers/dist/transformers.node.mjs")
const { AutoModelForCausalLM, Tensor, env } = await import(pathToFileURL(folder).href)

env.allowRemoteModels = false
const model = await AutoModelForCausalLM.from_pretrained(resolve(positionals[0]), { dtype: "fp32", device: "cpu" })
// Nothing ends early.
model.generation_config.eos_token_id = null

const int64 = (of) => new Tensor("int64", BigInt64Array.from({ length: batch * length }, of), [batch, length])
const inputs = int64(() => BigInt(100 + Math.floor(Math.random() * 40_000)))
const mask = int64(() => 1n)

const generate = async (most) => {
  const options = { do_sample: true, temperature: 1, top_k: 0, top_p: 1, max_new_tokens: most }
  const found = await model.generate({ inputs, attention_mask: mask, ...options })
  return found.dims[0] * (found.dims[1] - length)
}

await Turns.take(
  values,
  () => generate(2),
  () => generate(tokens)
)
process.exit()
