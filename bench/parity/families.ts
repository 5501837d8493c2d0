/**
 * Holds the engine against transformers on the models that `families.py` made:
 *
 *     node bench/parity/families.ts FOLDER
 *
 * Prints for each model the largest differences, of gradients relative to the largest entry of each parameter's, and
 * exits with 1 where one is too large or a greedy text differs.
 */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as LearnProgram from "../../src/engine/LearnProgram.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Program from "../../src/engine/Program.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Config from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Transformer from "../../src/model/Transformer.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"

/** What a difference may be at most. */
const limits = { logits: 1e-4, loss: 1e-5, gradient: 1e-4 }

/** Gradients below are rounding: keys without rotary positions do not depend on their bias, and neither does the loss. */
const nothing = 1e-6

/** How long the prompt of the greedy text is. */
const prompt = 8

const difference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}

/** PEFT's name of an adapter's tensor. */
const peft = (name: string): string => `base_model.model.${name.replace(/lora_([AB])$/, "lora_$1.default.weight")}`

const compare = Effect.fnUntraced(function* (folder: string) {
  const checkpoint = yield* Checkpoint.open(folder)
  const { config } = checkpoint
  const golden = (yield* Safetensors.read(path.join(folder, "golden.safetensors"))).tensors
  const floats = (name: string) => Safetensors.load(golden.get(name)!)
  const integers = (name: string) =>
    Effect.map(Safetensors.loadIntegers(golden.get(name)!), (x) => Array.from(x, Number))
  const [count, length] = golden.get("ids")!.shape as [number, number]
  const cut = <A>(all: ReadonlyArray<A>) =>
    Array.from({ length: count }, (_, b) => all.slice(b * length, (b + 1) * length))
  const rows = cut(yield* integers("ids"))
  const attention = yield* integers("attention_mask")
  const learnt = cut(Array.from(yield* floats("loss_mask")))
  const lora = Adapters.fromLora(yield* Lora.read(path.join(folder, "adapter"), config), config)

  const logits = Effect.fnUntraced(function* (adapted: boolean) {
    const graph = Graph.make("logits")
    const numbers = Trainables.views(lora.layout, lora.vector)
    const values = new Map(
      lora.layout.entries.map((e) => [e.name, Graph.constant(graph, "float32", e.shape, numbers.get(e.name)!)])
    )
    const network = Program.network(
      graph,
      checkpoint,
      { values: adapted ? values : new Map(), scales: lora.scales },
      "factored"
    )
    const { hidden } = Transformer.build(network.config, network.parameters, Program.tokenInputs(graph), length)
    Graph.output(graph, "logits", Transformer.logits(network.config, network.parameters, hidden()))
    const session = yield* Session.make(graph, { folder: Program.weightsFolder })
    const ours = Session.floats((yield* session.run(Program.tokenFeeds(rows)))["logits"]!)
    const expected = yield* floats(adapted ? "lora_logits" : "logits")
    // What stands after a row's end is never used, and the two mask it differently.
    const at = (x: Float32Array, i: number) => x.subarray(i * config.vocabSize, (i + 1) * config.vocabSize)
    return Math.max(...attention.map((m, i) => (m === 0 ? 0 : difference(at(ours, i), at(expected, i)))))
  })

  const learning = Effect.fnUntraced(function* (adapted: boolean) {
    const layout = adapted
      ? lora.layout
      : Trainables.layout(Array.from(Config.parameters(config), ([name, shape]) => ({ name, shape, group: "all" })))
    const stored = new Map<string, Float32Array>()
    for (const [name, info] of checkpoint.tensors) stored.set(name, yield* Safetensors.load(info))
    const vector = adapted ? lora.vector : Trainables.pack(layout, (e) => stored.get(e.name)!)
    const { graph } = LearnProgram.accumulate(checkpoint, { layout, scales: lora.scales }, Objective.sft, {
      chunks: 1,
      shares: false
    })
    const session = yield* Session.make(graph, { folder: Program.weightsFolder })
    const weighted = rows.map((row, b) => ({ ids: row, weights: learnt[b]! }))
    const batch = Batch.supervised(weighted, Batch.totalWeight(weighted))
    const total = new Float32Array(layout.size)
    const results = yield* session.run(
      {
        ...batch.tokens(),
        ...batch.feeds,
        ...Trainables.tensors(layout, vector, LearnProgram.vectors.parameters),
        ...Trainables.tensors(layout, total, LearnProgram.vectors.gradient)
      },
      { ...Trainables.tensors(layout, total, LearnProgram.vectors.sum), metric_loss: null }
    )
    let gradient = 0
    for (const [name, ours] of Trainables.views(layout, total)) {
      const expected = yield* floats(adapted ? `lora_grad.${peft(name)}` : `grad.${name}`)
      const size = (of: Float32Array) => difference(of, new Float32Array(of.length))
      if (size(expected) < nothing && size(ours) < nothing) continue
      gradient = Math.max(gradient, difference(ours, expected) / size(expected))
    }
    const loss = Session.floats(results["metric_loss"]!)[0]!
    return { gradient, loss: Math.abs(loss - (yield* floats(adapted ? "lora_losses" : "loss"))[0]!) }
  })

  const scoring = Effect.gen(function* () {
    const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
    const expected = yield* floats("token_logprobs")
    let most = 0
    for (const [b, row] of rows.entries()) {
      const ids = row.filter((_, t) => attention[b * length + t] === 1)
      const [at, targets] = [ids.slice(1).map((_, t) => t), ids.slice(1)]
      const scored = yield* scorer.score({ ids, adapter: undefined, kind: "logprobs", at, targets })
      const from = b * (length - 1)
      most = Math.max(most, difference(scored, expected.subarray(from, from + scored.length)))
    }
    return most
  })

  const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
  const greedy = yield* integers("greedy")
  const { tokenIds } = yield* decoder.generate({
    id: "greedy",
    ids: greedy.slice(0, prompt),
    adapter: undefined,
    seed: 0,
    maxTokens: greedy.length - prompt,
    temperature: 0,
    stopIds: new Set()
  })
  const same = tokenIds.filter((token, t) => token === greedy[prompt + t]).length
  const [alone, adapted] = [yield* learning(false), yield* learning(true)]
  return {
    parameters: [...golden.keys()].filter((name) => name.startsWith("grad.")).length,
    logits: yield* logits(false),
    scores: yield* scoring,
    loss: alone.loss,
    gradient: alone.gradient,
    adaptedLogits: yield* logits(true),
    adaptedLoss: adapted.loss,
    adaptedGradient: adapted.gradient,
    greedy: `${same}/${greedy.length - prompt}`,
    distinct: new Set(tokenIds).size,
    equal: same === tokenIds.length
  }
})

const [root] = process.argv.slice(2)
if (root === undefined) {
  console.error("usage: node bench/parity/families.ts FOLDER")
  process.exit(2)
}
console.log(
  "| model | parameters | logits | log-probabilities | loss | gradients | with adapter: logits | loss | gradients | greedy text |"
)
console.log("|---|---|---|---|---|---|---|---|---|---|")
let failed = false
for (const name of fs.readdirSync(root).sort()) {
  const found = await Effect.runPromise(Effect.scoped(compare(path.join(root, name))))
  const differences = [
    [found.logits, limits.logits],
    [found.scores, limits.logits],
    [found.loss, limits.loss],
    [found.gradient, limits.gradient],
    [found.adaptedLogits, limits.logits],
    [found.adaptedLoss, limits.loss],
    [found.adaptedGradient, limits.gradient]
  ] as const
  const fits = found.equal && differences.every(([is, most]) => is < most)
  failed ||= !fits
  const cells = differences.map(([is]) => is.toExponential(1))
  const greedy = `${found.greedy} equal (${found.distinct} distinct)`
  console.log(`| ${name}${fits ? "" : " **differs**"} | ${found.parameters} | ${cells.join(" | ")} | ${greedy} |`)
}
process.exit(failed ? 1 : 0)
