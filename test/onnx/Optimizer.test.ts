/** The optimizer against PyTorch's: `test/fixtures/objectives.json` holds its trajectories. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Optimizer from "../../src/onnx/Optimizer.ts"
import * as Session from "../../src/onnx/Session.ts"
import golden from "../fixtures/objectives.json" with { type: "json" }
import * as Plain from "./Plain.ts"

/** AdamW as a session: from its state and a gradient to the next state. */
const compile = Effect.fnUntraced(function* (options: Optimizer.AdamW, size: number) {
  const graph = Graph.make("adamw")
  const vector = (name: string) => Graph.input(graph, name, "float32", [size])
  const scalar = (name: string) => Graph.input(graph, name, "float32", [])
  const updated = Optimizer.adamw(options, {
    parameters: vector("parameters"),
    gradient: vector("gradient"),
    m: vector("m"),
    v: vector("v"),
    learningRate: scalar("learningRate"),
    weightDecay: scalar("weightDecay"),
    correction1: scalar("correction1"),
    correction2: scalar("correction2")
  })
  for (const [name, value] of Object.entries(updated)) Graph.output(graph, `next ${name}`, value)
  return yield* Plain.session(graph)
})

describe("AdamW", () => {
  for (const { inputs, trajectory } of [golden["adamw_wd0.0"], golden["adamw_wd0.1"]]) {
    it.effect(`takes PyTorch's steps with weight decay ${inputs.weight_decay}`, () =>
      Effect.gen(function* () {
        const options = { beta1: inputs.betas[0]!, beta2: inputs.betas[1]!, epsilon: inputs.eps }
        const size = inputs.w.flat().length
        const session = yield* compile(options, size)
        const tensor = (data: ArrayLike<number>) => Session.float32(Float32Array.from(data), [size])
        let parameters = tensor(inputs.w.flat())
        let [m, v] = [tensor(Array(size).fill(0)), tensor(Array(size).fill(0))]
        for (const [i, expected] of trajectory.entries()) {
          const { correction1, correction2 } = Optimizer.corrections(options, i + 1)
          const results = yield* session.run({
            parameters,
            gradient: tensor(inputs.grads[i]!.flat()),
            m,
            v,
            learningRate: Session.scalar(inputs.lr),
            weightDecay: Session.scalar(inputs.weight_decay),
            correction1: Session.scalar(correction1),
            correction2: Session.scalar(correction2)
          })
          parameters = results["next parameters"]! as typeof parameters
          m = results["next m"]! as typeof m
          v = results["next v"]! as typeof v
          expect(Plain.distance(Plain.plain(parameters), { sizes: [size], data: expected.flat() })).toBeLessThan(1e-6)
        }
      })
    )
  }

  it("has corrections that make the first moments of a constant gradient that gradient", () => {
    const options = Optimizer.defaults
    let [m, v] = [0, 0]
    for (let t = 1; t <= 50; t++) {
      m = options.beta1 * m + (1 - options.beta1) * 3
      v = options.beta2 * v + (1 - options.beta2) * 9
      const { correction1, correction2 } = Optimizer.corrections(options, t)
      expect(m * correction1).toBeCloseTo(3, 12)
      expect(Math.sqrt(v) * correction2).toBeCloseTo(3, 12)
    }
  })
})

describe("clipFactor", () => {
  it("scales long gradients to the norm and leaves short ones", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        (norm, most) => {
          const factor = Optimizer.clipFactor(norm, most)
          expect(factor * norm).toBeLessThanOrEqual(most)
          expect(factor).toBe(norm + 1e-6 <= most ? 1 : most / (norm + 1e-6))
        }
      )
    )
  })
})

describe("schedules", () => {
  const schedule = (kind: Optimizer.Schedule["kind"], floor = 0) => ({ kind, steps: 20, warmup: 5, floor })

  it("are those of transformers", () => {
    for (const [kind, { output }] of [
      ["cosine", golden.schedule_cosine],
      ["linear", golden.schedule_linear]
    ] as const) {
      expect(output).toHaveLength(20)
      output.forEach((expected, step) => {
        expect(Math.abs(Optimizer.multiplier(schedule(kind), step) - expected)).toBeLessThan(1e-7)
      })
    }
  })

  it("rise to 1 with the warm-up and end at their floor", () => {
    for (const kind of ["linear", "cosine"] as const) {
      const of = schedule(kind, 0.1)
      expect(Optimizer.multiplier(of, 0)).toBe(0)
      expect(Optimizer.multiplier(of, 5)).toBe(1)
      expect(Optimizer.multiplier(of, 20)).toBeCloseTo(0.1, 12)
      expect(Optimizer.multiplier(of, 100)).toBeCloseTo(0.1, 12)
    }
    expect(Optimizer.multiplier(schedule("constant", 0.1), 20)).toBe(1)
  })

  it("begin at the peak without a warm-up, as in transformers", () => {
    const rates = (kind: Optimizer.Schedule["kind"], steps: number) =>
      Array.from({ length: steps }, (_, i) => Optimizer.stepMultiplier({ kind, steps, warmup: 0, floor: 0 }, i))
    expect(rates("linear", 4)).toEqual([1, 0.75, 0.5, 0.25])
    expect(rates("cosine", 2)[0]).toBe(1)
    expect(rates("cosine", 2)[1]).toBeCloseTo(0.5, 12)
    expect(rates("linear", 1)).toEqual([1])
  })

  it("give every optimizer step a rate above zero and at most the peak", () => {
    const schedules = fc.record({
      kind: fc.constantFrom("constant", "linear", "cosine"),
      steps: fc.integer({ min: 1, max: 200 }),
      warmup: fc.integer({ min: 0, max: 250 }),
      floor: fc.double({ min: 0, max: 1, noNaN: true })
    })
    fc.assert(
      fc.property(schedules, (of) => {
        const rates = Array.from({ length: of.steps }, (_, i) => Optimizer.stepMultiplier(of, i))
        expect(Math.min(...rates)).toBeGreaterThan(0)
        expect(Math.max(...rates)).toBeLessThanOrEqual(1 + 1e-12)
        // Up during the warm-up, never up after it.
        rates.slice(1).forEach((rate, i) => {
          if (i + 2 < of.warmup) expect(rate).toBeGreaterThan(rates[i]!)
          else if (i + 1 >= of.warmup) expect(rate).toBeLessThanOrEqual(rates[i]!)
        })
      })
    )
  })
})
