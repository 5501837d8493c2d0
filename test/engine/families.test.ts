import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as path from "node:path"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as LearnProgram from "../../src/engine/LearnProgram.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Program from "../../src/engine/Program.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Trainables from "../../src/engine/Trainables.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Config from "../../src/model/ModelConfig.ts"
import * as Safetensors from "../../src/model/Safetensors.ts"
import * as Transformer from "../../src/model/Transformer.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Golden from "./golden.ts"

/** How the golden batch is laid out: rows of 24 tokens, of which each but the first is predicted. */
const length = 24

/** A family's golden values with its adapter. */
const load = Effect.fnUntraced(function* (model: (typeof Golden.models)[number]) {
  const folder = Golden.folderOf(model)
  const golden = yield* Golden.loadFrom(folder)
  const lora = yield* Lora.read(path.join(folder, "adapter"), golden.checkpoint.config)
  const mask = yield* golden.integers("attention_mask")
  const lengths = golden.rows.map((_, b) => mask.slice(b * length, (b + 1) * length).filter((m) => m === 1).length)
  const rows = golden.rows.map((ids, b) => ({
    ids,
    weights: golden.lossMask.slice(b * length, (b + 1) * length)
  }))
  return { ...golden, adapter: Adapters.fromLora(lora, golden.checkpoint.config), lengths, rows, ids: golden.rows }
})

/** log softmax of a row of logits at a token. */
const logprob = (logits: Float32Array, token: number): number =>
  logits[token]! - Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0))

/** PEFT's name of an adapter's tensor in the golden file. */
const peft = (name: string): string => `base_model.model.${name.replace(/lora_([AB])$/, "lora_$1.default.weight")}`

for (const model of Golden.models) {
  describe(`${model} against transformers`, () => {
    for (const how of ["alone", "with an adapter, factored", "with an adapter, merged"] as const) {
      it.effect(`has the same logits ${how}`, () =>
        Effect.gen(function* () {
          const { adapter, checkpoint, floats, ids, lengths } = yield* load(model)
          const graph = Graph.make("logits")
          const views = how === "alone" ? new Map() : Trainables.views(adapter.layout, adapter.vector)
          const values = new Map(
            adapter.layout.entries
              .filter(({ name }) => views.has(name))
              .map(({ name, shape }) => [name, Graph.constant(graph, "float32", shape, views.get(name)!)])
          )
          const adaptation = how.endsWith("merged") ? "merged" : "factored"
          const network = Program.network(graph, checkpoint, { values, scales: adapter.scales }, adaptation)
          const { config, parameters } = network
          const { hidden } = Transformer.build(config, parameters, Program.tokenInputs(graph), length)
          Graph.output(graph, "logits", Transformer.logits(config, parameters, hidden()))
          const session = yield* Session.make(graph, { folder: Program.weightsFolder })
          const ours = Session.floats((yield* session.run(Program.tokenFeeds(ids)))["logits"]!)
          const expected = yield* floats(how === "alone" ? "logits" : "lora_logits")
          // Padded positions hold nothing that is ever used, and transformers masks them otherwise.
          lengths.forEach((tokens, b) => {
            const slice = (x: Float32Array) =>
              x.subarray(b * length * config.vocabSize, (b * length + tokens) * config.vocabSize)
            expect(Golden.distance(slice(ours), slice(expected))).toBeLessThan(1e-4)
          })
        })
      )
    }

    it.live("has the same log-probabilities of tokens, alone and with an adapter", () =>
      Effect.gen(function* () {
        const { adapter, checkpoint, floats, ids, lengths } = yield* load(model)
        const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
        const alone = yield* floats("token_logprobs")
        const adapted = yield* floats("lora_logits")
        const { vocabSize } = checkpoint.config
        for (const [b, row] of ids.entries()) {
          const tokens = row.slice(0, lengths[b])
          const request = {
            ids: tokens,
            kind: "logprobs" as const,
            at: tokens.slice(1).map((_, t) => t),
            targets: tokens.slice(1)
          }
          expect(
            Golden.distance(
              yield* scorer.score({ ...request, adapter: undefined }),
              alone.subarray(b * (length - 1), b * (length - 1) + tokens.length - 1)
            )
          ).toBeLessThan(1e-4)
          const logits = (t: number) => adapted.subarray((b * length + t) * vocabSize, (b * length + t + 1) * vocabSize)
          expect(
            Golden.distance(
              yield* scorer.score({ ...request, adapter }),
              request.targets.map((token, t) => logprob(logits(t), token))
            )
          ).toBeLessThan(1e-4)
          const cooler = request.targets.map((token, t) =>
            logprob(
              logits(t).map((x) => x / 0.4),
              token
            )
          )
          expect(Golden.distance(yield* scorer.score({ ...request, adapter, temperature: 0.4 }), cooler)).toBeLessThan(
            3e-4
          )
        }
      })
    )

    for (const trained of ["every parameter", "the adapter"] as const) {
      it.effect(`has the same loss and the same gradient of ${trained}`, () =>
        Effect.gen(function* () {
          const { adapter, checkpoint, floats, rows } = yield* load(model)
          const stored = new Map<string, Float32Array>()
          for (const [name, info] of checkpoint.tensors) stored.set(name, yield* Safetensors.load(info))
          const all = Trainables.layout(
            Array.from(Config.parameters(checkpoint.config), ([name, shape]) => ({ name, shape, group: "all" }))
          )
          const whole = trained === "every parameter"
          const layout = whole ? all : adapter.layout
          const vector = whole ? Trainables.pack(all, (e) => stored.get(e.name)!) : adapter.vector
          const { graph } = LearnProgram.accumulate(checkpoint, { layout, scales: adapter.scales }, Objective.sft, {
            chunks: 1,
            shares: false
          })
          const session = yield* Session.make(graph, { folder: Program.weightsFolder })
          const { feeds, tokens } = Batch.supervised(rows, Batch.totalWeight(rows))
          const total = new Float32Array(layout.size)
          const results = yield* session.run(
            {
              ...tokens(),
              ...feeds,
              ...Trainables.tensors(layout, vector, LearnProgram.vectors.parameters),
              ...Trainables.tensors(layout, total, LearnProgram.vectors.gradient)
            },
            { ...Trainables.tensors(layout, total, LearnProgram.vectors.sum), metric_loss: null }
          )
          const loss = Session.floats(results["metric_loss"]!)[0]!
          const expected = (yield* floats(whole ? "loss" : "lora_losses"))[0]!
          expect(Math.abs(loss - expected)).toBeLessThan(1e-5)
          for (const [name, ours] of Trainables.views(layout, total)) {
            const gradient = yield* floats(whole ? `grad.${name}` : `lora_grad.${peft(name)}`)
            expect(Golden.distance(ours, gradient), name).toBeLessThan(1e-4 * Golden.largest(gradient))
          }
        })
      )
    }

    it.effect("takes the same five steps of AdamW", () =>
      Effect.gen(function* () {
        const { adapter, checkpoint, floats, rows } = yield* load(model)
        const { layout, scales } = adapter
        const learner = yield* Learner.make(checkpoint, { layout, scales }, Objective.sft, { microTokens: 72 })
        const state = Learner.initialState(adapter.vector)
        const batch = [Batch.supervised(rows, Batch.totalWeight(rows))]
        const metrics: Array<Learner.Metrics> = []
        for (let i = 0; i < 5; i++) {
          metrics.push(
            yield* learner.step(state, batch, { learningRates: [1e-2], weightDecays: [0.01], maxGradNorm: 1 })
          )
        }
        const of = (name: "loss" | "grad_norm") => metrics.map((m) => m[name])
        expect(Golden.distance(of("loss"), yield* floats("lora_losses"))).toBeLessThan(1e-4)
        expect(Golden.distance(of("grad_norm"), yield* floats("lora_grad_norms"))).toBeLessThan(1e-3)
        for (const [name, ours] of Trainables.views(layout, state.parameters)) {
          const expected = yield* floats(`lora_after5.${peft(name)}`)
          expect(Golden.distance(ours, expected), name).toBeLessThan(1e-3 * Golden.largest(expected))
        }
      })
    )

    it.live("continues greedily with the same tokens, however much of them is given", () =>
      Effect.gen(function* () {
        const { checkpoint, ids, integers } = yield* load(model)
        const expected = yield* integers("greedy")
        const prompt = expected.findIndex((token, t) => token !== ids[0]![t])
        const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
        // Some of the golden texts were made with the end forbidden, with which the tiny qwen2 would start.
        const forbidden = checkpoint.eosTokenIds.filter((end) => !expected.includes(end))
        const continued = (given: number) =>
          decoder.generate({
            id: "greedy",
            ids: expected.slice(0, given),
            adapter: undefined,
            seed: 0,
            maxTokens: expected.length - given,
            temperature: 0,
            logitBias: new Map(forbidden.map((end) => [end, Number.NEGATIVE_INFINITY])),
            stopIds: new Set()
          })
        for (const given of [prompt, prompt + 3]) {
          expect((yield* continued(given)).tokenIds).toEqual(expected.slice(given))
        }
      })
    )

    it.live("decodes after a long prompt with the log-probabilities of the scorer", () =>
      Effect.gen(function* () {
        const { checkpoint } = yield* load(model)
        const decoder = yield* Decoder.make(checkpoint, { memory: 1e8, maxRows: 4 })
        const scorer = yield* Scorer.make(checkpoint, { maxTokens: 4096 })
        // Longer than the decoder reads at once, and than any window.
        const prompt = Array.from({ length: 90 }, (_, t) => 3 + ((t * t * 7 + t) % 60))
        const { logprobs, tokenIds } = yield* decoder.generate({
          id: "long",
          ids: prompt,
          adapter: undefined,
          seed: 1,
          maxTokens: 20,
          temperature: 1,
          stopIds: new Set()
        })
        const scored = yield* scorer.score({
          ids: [...prompt, ...tokenIds],
          adapter: undefined,
          kind: "logprobs",
          at: tokenIds.map((_, t) => prompt.length + t - 1),
          targets: tokenIds
        })
        expect(Golden.distance(logprobs, scored)).toBeLessThan(1e-4)
      })
    )

    it.live("decodes in bursts what it decodes token by token, alone and with an adapter", () =>
      Effect.gen(function* () {
        const { adapter, checkpoint } = yield* load(model)
        const requests = Array.from({ length: 12 }, (_, i) => ({
          id: `${i}`,
          // From two tokens to more than any window.
          ids: Array.from({ length: 2 + i * 7 }, (_, t) => 3 + ((i * 31 + t * 17) % 60)),
          adapter: i % 2 === 0 ? undefined : adapter,
          seed: 1,
          maxTokens: 20 + i,
          temperature: [0, 1, 0.7][i % 3]!,
          stopIds: new Set<number>()
        }))
        const answers = (burst: number) => Golden.answers(checkpoint, { memory: 1e8, maxRows: 4, burst }, requests)
        const apart = yield* answers(1)
        for (const [i, { logprobs, samplingLogprobs, tokenIds }] of (yield* answers(7)).entries()) {
          expect(tokenIds).toEqual(apart[i]!.tokenIds)
          expect(Golden.distance(logprobs, apart[i]!.logprobs)).toBeLessThan(1e-4)
          expect(Golden.distance(samplingLogprobs, apart[i]!.samplingLogprobs)).toBeLessThan(1e-4)
        }
      })
    )
  })
}
