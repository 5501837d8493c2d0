/**
 * node-llama-cpp: --batch prompts of --length tokens continued by --tokens at temperature 1, each a sequence of one
 * context. Units: tokens. The model is a GGUF file; node-llama-cpp is found in the folder --modules, as it is no
 * dependency of Charter:
 *
 *     npm install --prefix /tmp/peers-node --ignore-scripts node-llama-cpp@3
 *     node bench/peers/llama-cpp.mjs MODEL.gguf --modules /tmp/peers-node [--batch 8] [--length 64] [--tokens 64] [--turns 3] [--led]
 */
import { availableParallelism } from "node:os"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import * as Turns from "./turns.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    modules: { type: "string" },
    precision: { type: "string", default: "gguf" },
    ...Turns.options
  }
})
const [batch, length, tokens] = [values.batch, values.length, values.tokens].map(Number)
const folder = resolve(values.modules ?? ".", "node_modules/node-llama-cpp/dist/index.js")
const { getLlama } = await import(pathToFileURL(folder).href)

const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: "error" })
const model = await llama.loadModel({ modelPath: positionals[0] })
const context = await model.createContext({
  sequences: batch,
  contextSize: length + tokens + 1,
  batchSize: Math.max(512, batch),
  threads: { ideal: availableParallelism(), min: availableParallelism() }
})
const sequences = Array.from({ length: batch }, () => context.getSequence())
const prompts = sequences.map(() => Array.from({ length }, () => 100 + Math.floor(Math.random() * 40_000)))

const generate = async (most) => {
  const counts = await Promise.all(
    sequences.map(async (sequence, i) => {
      await sequence.clearHistory()
      let count = 0
      const options = { temperature: 1, topK: 0, topP: 1, minP: 0, yieldEogToken: true }
      for await (const _ of sequence.evaluate(prompts[i], options)) if (++count === most) break
      return count
    })
  )
  return counts.reduce((a, b) => a + b, 0)
}

await Turns.take(
  values,
  () => generate(2),
  () => generate(tokens)
)
process.exit()
