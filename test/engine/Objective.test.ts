/** The objectives against PyTorch's losses, metrics and gradients in `test/fixtures/objectives.json`. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Objective from "../../src/engine/Objective.ts"
import * as Gradient from "../../src/onnx/Gradient.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import golden from "../fixtures/objectives.json" with { type: "json" }
import * as Plain from "../onnx/Plain.ts"

/** What a network would compute, as plain numbers. */
type Outputs = Partial<Record<keyof Objective.Outputs, ReadonlyArray<number>>>

/** Loss, metrics and the gradients with respect to the outputs. */
const evaluate = (
  objective: Objective.Objective,
  outputs: Outputs,
  data: Readonly<Record<string, ReadonlyArray<number>>>
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const graph = Graph.make(objective.name)
      const given = Object.entries(outputs).map(
        ([name]) => [name, Graph.input(graph, `output ${name}`, "float32", [name === "scores" ? "S" : "N"])] as const
      )
      const inputs = Object.entries(objective.inputs).map(
        ([name, { dtype, shape }]) => [name, Graph.input(graph, name, dtype, shape)] as const
      )
      const missing = () => Graph.fail(graph, objective.name, [], "it reads an output that is not given")
      const accessors = Object.fromEntries(given.map(([name, value]) => [name, () => value]))
      const { loss, metrics } = objective.build(
        { logprobs: missing, values: missing, scores: missing, ...accessors },
        Object.fromEntries(inputs)
      )
      Graph.output(graph, "loss", loss)
      for (const [name, value] of Object.entries(metrics)) Graph.output(graph, `metric ${name}`, value)
      const gradients = Gradient.gradients(
        loss,
        given.map(([, value]) => value)
      )
      given.forEach(([name], i) => Graph.output(graph, `gradient ${name}`, gradients[i]!))
      const session = yield* Plain.session(graph)
      const results = yield* session.run({
        ...Object.fromEntries(
          Object.entries(outputs).map(([name, x]) => [
            `output ${name}`,
            Session.float32(Float32Array.from(x), [x.length])
          ])
        ),
        ...Object.fromEntries(
          Object.entries(objective.inputs).map(([name, { dtype }]) => {
            const x = data[name]!
            return [name, Plain.tensor({ dtype: dtype === "int64" ? "int64" : "float32", sizes: [x.length], data: x })]
          })
        )
      })
      const read = (name: string) => Plain.plain(results[name]!)
      return {
        loss: read("loss").data[0]!,
        metrics: Object.fromEntries(Object.keys(metrics).map((name) => [name, read(`metric ${name}`).data[0]!])),
        gradients: Object.fromEntries(given.map(([name]) => [name, read(`gradient ${name}`)]))
      }
    })
  )

type Evaluated = Effect.Success<ReturnType<typeof evaluate>>

/** Everything is as expected within 1e-5. */
const agrees = (
  result: Evaluated,
  expected: {
    readonly loss: number
    readonly metrics: Readonly<Record<string, number>>
    readonly gradients: Readonly<Record<string, ReadonlyArray<number>>>
  }
) => {
  expect(Math.abs(result.loss - expected.loss)).toBeLessThan(1e-5)
  expect(Object.keys(result.metrics).toSorted()).toEqual(Object.keys(expected.metrics).toSorted())
  for (const [name, value] of Object.entries(expected.metrics)) {
    expect(Math.abs(result.metrics[name]! - value), name).toBeLessThan(1e-5)
  }
  expect(Object.keys(result.gradients).toSorted()).toEqual(Object.keys(expected.gradients).toSorted())
  for (const [name, data] of Object.entries(expected.gradients)) {
    expect(Plain.distance(result.gradients[name]!, { sizes: [data.length], data }), name).toBeLessThan(1e-5)
  }
}

const mask = golden.mask.flat()
const tokens = mask.filter((m) => m === 1).length
/** The unmasked tokens of [B, T], one after the other. */
const unmasked = (grid: ReadonlyArray<ReadonlyArray<number>>) => grid.flat().filter((_, i) => mask[i] === 1)
const weights = Array<number>(tokens).fill(1 / tokens)

describe("sft", () => {
  it.effect("is the mean negative log-likelihood of the unmasked tokens", () =>
    Effect.gen(function* () {
      const { grads, inputs, loss, metrics } = golden.sft
      const result = yield* evaluate(Objective.sft, { logprobs: unmasked(inputs.token_logprobs) }, { weights })
      agrees(result, { loss, metrics, gradients: { logprobs: unmasked(grads.token_logprobs) } })
    })
  )

  it.effect("counts each token by its weight", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(Objective.sft, { logprobs: [-1, -2, -4] }, { weights: [0.5, 0.25, 0] })
      agrees(result, { loss: 1, metrics: {}, gradients: { logprobs: [-0.5, -0.25, 0] } })
    })
  )
})

describe("bradleyTerry", () => {
  for (const kind of ["hard", "soft", "margin"] as const) {
    it.effect(`with a ${kind === "margin" ? "margin" : `${kind} label`}`, () =>
      Effect.gen(function* () {
        const { grads, inputs, loss, metrics } = golden[`bradley_terry_${kind}`]
        const pairs = inputs.chosen.length
        const result = yield* evaluate(
          Objective.bradleyTerry,
          { scores: [...inputs.chosen, ...inputs.rejected] },
          {
            first: inputs.chosen.map((_, i) => i),
            second: inputs.rejected.map((_, i) => pairs + i),
            target: inputs.target,
            margin: inputs.margin,
            weights: Array(pairs).fill(1 / pairs)
          }
        )
        agrees(result, { loss, metrics, gradients: { scores: [...grads.chosen, ...grads.rejected] } })
      })
    )
  }

  it.effect("sums the gradients of a sequence that stands in several pairs", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(
        Objective.bradleyTerry,
        { scores: [0, 0, 0] },
        { first: [0, 0], second: [1, 2], target: [1, 1], margin: [0, 0], weights: [0.5, 0.5] }
      )
      const gradients = { scores: [-0.5, 0.25, 0.25] }
      agrees(result, { loss: Math.LN2, metrics: { accuracy: 0 }, gradients })
    })
  )

  it.effect("has ranked no pair whose scores are the same or no numbers, whichever the label prefers", () =>
    Effect.gen(function* () {
      const accuracy = Effect.fnUntraced(function* (scores: ReadonlyArray<number>, target: number) {
        const data = { first: [0], second: [1], target: [target], margin: [0], weights: [1] }
        return (yield* evaluate(Objective.bradleyTerry, { scores }, data)).metrics["accuracy"]
      })
      for (const scores of [
        [2, 2],
        [NaN, 1]
      ]) {
        for (const target of [0, 0.3, 0.7, 1]) expect(yield* accuracy(scores, target)).toBe(0)
      }
      expect(yield* accuracy([1, 2], 0.3)).toBe(1)
      expect(yield* accuracy([2, 1], 0.3)).toBe(0)
      // A tie is for nobody: half of a hit, whatever the scores say.
      for (const scores of [
        [2, 2],
        [1, 2],
        [2, 1]
      ])
        expect(yield* accuracy(scores, 0.5)).toBe(0.5)
    })
  )

  it.effect("stays finite for scores far apart", () =>
    Effect.gen(function* () {
      const data = { first: [0], second: [1], target: [1], margin: [0], weights: [1] }
      const wrong = yield* evaluate(Objective.bradleyTerry, { scores: [-500, 500] }, data)
      agrees(wrong, { loss: 1000, metrics: { accuracy: 0 }, gradients: { scores: [-1, 1] } })
      const right = yield* evaluate(Objective.bradleyTerry, { scores: [500, -500] }, data)
      agrees(right, { loss: 0, metrics: { accuracy: 1 }, gradients: { scores: [0, 0] } })
    })
  )
})

describe("ppo", () => {
  const { grads, inputs, loss, metrics } = golden.ppo
  const objective = Objective.ppo({
    clip: inputs.clip,
    valueClip: inputs.value_clip,
    valueCoefficient: inputs.value_coef
  })
  const data = {
    old_logprobs: unmasked(inputs.old_logprobs),
    advantages: unmasked(inputs.advantages),
    old_values: unmasked(inputs.old_values),
    returns: unmasked(inputs.returns),
    weights
  }
  const outputs = { logprobs: unmasked(inputs.token_logprobs), values: unmasked(inputs.values) }

  it.effect("is the clipped surrogate and the clipped value loss", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(objective, outputs, data)
      const gradients = { logprobs: unmasked(grads.token_logprobs), values: unmasked(grads.values) }
      agrees(result, { loss, metrics, gradients })
    })
  )

  it.effect("is the same when the batch is cut into parts", () =>
    Effect.gen(function* () {
      const whole = yield* evaluate(objective, outputs, data)
      const part = (from: number, to: number) => {
        const cut = <K extends string>(of: Readonly<Record<K, ReadonlyArray<number>>>) =>
          Object.fromEntries(Object.entries<ReadonlyArray<number>>(of).map(([name, x]) => [name, x.slice(from, to)]))
        return evaluate(objective, cut(outputs), cut(data))
      }
      const [a, b] = [yield* part(0, 4), yield* part(4, tokens)]
      agrees(whole, {
        loss: a.loss + b.loss,
        metrics: Object.fromEntries(Object.keys(metrics).map((name) => [name, a.metrics[name]! + b.metrics[name]!])),
        gradients: Object.fromEntries(
          Object.keys(outputs).map((name) => [name, [...a.gradients[name]!.data, ...b.gradients[name]!.data]])
        )
      })
    })
  )

  it.effect("starts as the plain policy gradient: at the old policy nothing is clipped", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(objective, { logprobs: data.old_logprobs, values: data.old_values }, data)
      const policy = data.advantages.map((a) => -a / tokens)
      expect(Plain.distance(result.gradients["logprobs"]!, { sizes: [tokens], data: policy })).toBeLessThan(1e-6)
      expect(result.metrics).toMatchObject({ approx_kl: 0, approx_kl_k3: 0, clipfrac: 0 })
    })
  )
})

/** Only the metrics that the golden values have. */
const only = (result: Evaluated, names: ReadonlyArray<string>): Evaluated => ({
  ...result,
  metrics: Object.fromEntries(names.map((name) => [name, result.metrics[name]!]))
})

const meanOf = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0) / numbers.length

describe("dpo", () => {
  /** Each answer is one token, so that its sum is what the golden values have. */
  const data = (inputs: { rc: ReadonlyArray<number>; rr: ReadonlyArray<number>; target?: ReadonlyArray<number> }) => {
    const pairs = inputs.rc.length
    return {
      sequence: Array.from({ length: 2 * pairs }, (_, i) => i),
      reference: [...inputs.rc, ...inputs.rr],
      first: inputs.rc.map((_, i) => i),
      second: inputs.rr.map((_, i) => pairs + i),
      target: inputs.target ?? inputs.rc.map(() => 1),
      margin: inputs.rc.map(() => 0),
      weights: inputs.rc.map(() => 1 / pairs)
    }
  }
  for (const name of ["dpo_sigmoid_0.0", "dpo_sigmoid_0.1", "dpo_ipo_0.0"] as const) {
    it.effect(`is that of ${name}`, () =>
      Effect.gen(function* () {
        const { grads, inputs, loss, metrics } = golden[name]
        const objective = Objective.dpo({
          beta: inputs.beta,
          loss: inputs.kind as "sigmoid" | "ipo",
          labelSmoothing: inputs.label_smoothing
        })
        const result = yield* evaluate(objective, { logprobs: [...inputs.pc, ...inputs.pr] }, data(inputs))
        const expected = {
          rewards_chosen: meanOf(metrics.rewards_chosen),
          rewards_rejected: meanOf(metrics.rewards_rejected),
          accuracy: metrics.accuracy
        }
        agrees(only(result, Object.keys(expected)), {
          loss,
          metrics: expected,
          gradients: { logprobs: [...grads.pc, ...grads.pr] }
        })
        const margin = expected.rewards_chosen - expected.rewards_rejected
        expect(result.metrics["rewards_margin"]).toBeCloseTo(margin, 5)
      })
    )
  }

  it.effect("learns a soft label", () =>
    Effect.gen(function* () {
      const { grads, inputs, loss } = golden.dpo_soft
      const objective = Objective.dpo({ beta: inputs.beta, loss: "sigmoid" })
      const result = yield* evaluate(objective, { logprobs: [...inputs.pc, ...inputs.pr] }, data(inputs))
      agrees(only(result, []), { loss, metrics: {}, gradients: { logprobs: [...grads.pc, ...grads.pr] } })
    })
  )

  it.effect("is as far from its goal by ipo as the margin says", () =>
    Effect.gen(function* () {
      const objective = Objective.dpo({ beta: 0.5, loss: "ipo" })
      const result = yield* evaluate(
        objective,
        { logprobs: [-1, -2] },
        { sequence: [0, 1], reference: [-1.5, -1], first: [0], second: [1], target: [1], margin: [0.25], weights: [1] }
      )
      // h = 0.5 + 1, of which the margin is taken; the goal is 1 / 2β.
      agrees(only(result, []), { loss: 0.25 ** 2, metrics: {}, gradients: { logprobs: [0.5, -0.5] } })
    })
  )

  it.effect("weighs both goals of ipo by a soft label", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(
        Objective.dpo({ beta: 0.25, loss: "ipo" }),
        { logprobs: [-1, -2] },
        { sequence: [0, 1], reference: [-1.5, -1], first: [0], second: [1], target: [0.75], margin: [0], weights: [1] }
      )
      // h = 1.5 is 0.5 from the goal 1 / 2β = 2, and 3.5 from the other one, −2.
      const slope = 2 * (0.75 * -0.5 + 0.25 * 3.5)
      const loss = 0.75 * 0.5 ** 2 + 0.25 * 3.5 ** 2
      agrees(only(result, []), { loss, metrics: {}, gradients: { logprobs: [slope, -slope] } })
    })
  )

  it.effect("sums the tokens of an answer, however they are spread over the batch", () =>
    Effect.gen(function* () {
      const objective = Objective.dpo({ beta: 1, loss: "sigmoid" })
      const result = yield* evaluate(
        objective,
        { logprobs: [-1, -2, -3, -4, -0.5] },
        {
          sequence: [0, 1, 0, 1, 0],
          reference: [-4, -5],
          first: [0],
          second: [1],
          target: [1],
          margin: [0.25],
          weights: [1]
        }
      )
      // ρ(first) = −4.5 + 4, ρ(second) = −6 + 5: d = −0.5 + 1 − 0.25
      const d = 0.25
      const slope = -1 / (1 + Math.exp(d))
      agrees(only(result, ["accuracy"]), {
        loss: Math.log1p(Math.exp(-d)),
        metrics: { accuracy: 1 },
        gradients: { logprobs: [slope, -slope, slope, -slope, slope] }
      })
    })
  )
})

describe("grpo", () => {
  const lengths = golden.mask.map((row) => row.reduce((a, b) => a + b, 0))
  for (const name of ["grpo_token", "grpo_sequence"] as const) {
    it.effect(`is that of ${name}`, () =>
      Effect.gen(function* () {
        const { grads, inputs, loss, metrics } = golden[name]
        const perRow = (of: (row: number) => number) => unmasked(golden.mask.map((row, b) => row.map(() => of(b))))
        const result = yield* evaluate(
          Objective.grpo({ clip: inputs.clip, beta: inputs.beta }),
          { logprobs: unmasked(inputs.token_logprobs) },
          {
            old_logprobs: unmasked(inputs.old_logprobs),
            reference_logprobs: unmasked(inputs.ref_logprobs),
            advantages: perRow((b) => inputs.advantages[b]!),
            weights: inputs.agg === "token" ? weights : perRow((b) => 1 / (lengths.length * lengths[b]!)),
            shares: weights
          }
        )
        agrees(only(result, ["kl"]), { loss, metrics, gradients: { logprobs: unmasked(grads.token_logprobs) } })
      })
    )
  }

  it.effect("says what its tokens have on the mean, however the loss weighs them", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(
        Objective.grpo({ clip: 0.2, beta: 0.5 }),
        { logprobs: [-0.5, -2] },
        {
          old_logprobs: [-1, -1.9],
          reference_logprobs: [-1.5, -2],
          advantages: [1, 1],
          weights: [0.75, 0.25],
          shares: [0.5, 0.5]
        }
      )
      const kl = Math.exp(-1) - 1 + 1
      const policy = -0.75 * 1.2 - 0.25 * Math.exp(-0.1)
      agrees(result, {
        loss: policy + 0.5 * 0.75 * kl,
        metrics: { policy_loss: policy, approx_kl: 0.5 * 0.5 * (0.25 + 0.01), clipfrac: 0.5, kl: 0.5 * kl },
        // Of the first token, which is clipped, only the KL term's.
        gradients: { logprobs: [0.5 * 0.75 * (1 - Math.exp(-1)), -0.25 * Math.exp(-0.1)] }
      })
    })
  )
})

describe("grpo without a KL term", () => {
  it.effect("has the loss of its policy alone, and asks nothing about the reference", () =>
    Effect.gen(function* () {
      const objective = Objective.grpo({ clip: 0.2, beta: 0 })
      expect(Object.keys(objective.inputs)).not.toContain("reference_logprobs")
      const half = [0.5, 0.5]
      const result = yield* evaluate(
        objective,
        { logprobs: [-1, -2] },
        { old_logprobs: [-1, -2], advantages: [3, -1], weights: half, shares: half }
      )
      agrees(result, {
        loss: -1,
        metrics: { policy_loss: -1, approx_kl: 0, clipfrac: 0 },
        gradients: { logprobs: [-1.5, 0.5] }
      })
    })
  )
})

describe("rloo", () => {
  it.effect("weighs whole answers: at the old policy its gradient is REINFORCE's", () =>
    Effect.gen(function* () {
      const logprobs = [-1, -0.5, -2]
      const result = yield* evaluate(
        Objective.rloo({ clip: 0.2 }),
        { logprobs },
        { sequence: [0, 0, 1], old_logprobs: logprobs, advantages: [2, -3], weights: [0.5, 0.5] }
      )
      agrees(result, {
        loss: 0.5,
        metrics: { policy_loss: 0.5, approx_kl: 0, clipfrac: 0 },
        gradients: { logprobs: [-1, -1, 1.5] }
      })
    })
  )

  it.effect("stops where an answer has become likely enough", () =>
    Effect.gen(function* () {
      const result = yield* evaluate(
        Objective.rloo({ clip: 0.2 }),
        { logprobs: [-0.8, -0.8] },
        { sequence: [0, 0], old_logprobs: [-1, -1], advantages: [1], weights: [1] }
      )
      // R = e^0.4, above 1.2, and the advantage is positive.
      agrees(result, {
        loss: -1.2,
        metrics: { policy_loss: -1.2, approx_kl: 0.08, clipfrac: 1 },
        gradients: { logprobs: [0, 0] }
      })
    })
  )
})

describe("an objective of a user's own", () => {
  /** Confidence is penalised: L = −Σ w log p + λ Σ w p. */
  const cautious = (lambda: number) =>
    Objective.make({
      name: "cautious",
      inputs: { weights: Objective.perToken },
      build: (outputs, { weights }) => {
        const logprobs = outputs.logprobs()
        const confidence = Objective.mean(Op.exp(logprobs), weights)
        const loss = Op.sub(Op.scale(confidence, lambda), Objective.mean(logprobs, weights))
        return { loss, metrics: { confidence } }
      }
    })

  it.effect("gets its gradient the same way", () =>
    Effect.gen(function* () {
      const [logprobs, share] = [[-0.1, -1, -3], 1 / 3]
      const p = logprobs.map(Math.exp)
      const result = yield* evaluate(cautious(0.5), { logprobs }, { weights: logprobs.map(() => share) })
      agrees(result, {
        loss: 0.5 * meanOf(p) - meanOf(logprobs),
        metrics: { confidence: meanOf(p) },
        gradients: { logprobs: p.map((x) => share * (0.5 * x - 1)) }
      })
    })
  )

  it("does not compile where it asks for an input that it does not declare", () => {
    Objective.make({
      name: "undeclared",
      inputs: { weights: Objective.perToken },
      // @ts-expect-error: there are no `margins` among the inputs.
      build: (outputs, { margins }) => ({ loss: Objective.mean(outputs.logprobs(), margins), metrics: {} })
    })
  })
})
