import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Adapters from "../../src/engine/Adapters.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Layout from "../../src/engine/Layout.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as Objective from "../../src/engine/Objective.ts"
import * as Minibatches from "../../src/engine/Minibatches.ts"
import * as PolicyGradient from "../../src/engine/PolicyGradient.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as RaggedHeads from "../../src/model/RaggedHeads.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Golden from "./golden.ts"

const ids = fc.array(fc.integer({ min: 3, max: 310 }), { minLength: 1, maxLength: 12 })
/** Rows that begin alike, in groups; an answer may be empty, and answers may begin alike, too. */
const groups = fc.array(
  fc
    .tuple(ids, fc.array(fc.array(fc.constantFrom(5, 6), { maxLength: 6 }), { minLength: 1, maxLength: 4 }))
    .map(([prompt, answers]) => answers.map((answer) => [...prompt, ...answer])),
  { minLength: 1, maxLength: 4 }
)

/** The groups of rows, numbered through. */
const numbered = (of: ReadonlyArray<ReadonlyArray<ReadonlyArray<number>>>) => {
  let next = 0
  return { rows: of.flat(), groups: of.map((rows) => rows.map(() => next++)) }
}

/** What each place of a layout holds and sees. */
const read = (layout: Layout.Layout) => {
  const feeds = layout.feeds()
  const integers = (name: string) => Array.from((feeds[name]?.data as BigInt64Array | undefined) ?? [], Number)
  const [ids, positions, places] = [integers("ids"), integers("positions"), integers("places")]
  const [queries, beginnings] = [integers("queries"), integers("beginnings")]
  // Rows apart see their own tokens alone.
  const keys = Layout.shares(feeds) ? integers("keys") : queries
  const seen = feeds["seen"]!.data as Float32Array
  const width = feeds["seen"]!.dims[3]!
  return {
    size: ids.length,
    id: (place: number) => ids[place],
    position: (place: number) => positions[place],
    /** The tokens that a token sees, in order. */
    seen: (place: number) => {
      const query = places[place]!
      const row = Math.floor(query / feeds["queries"]!.dims[1]!)
      const line = seen.subarray(query * width, (query + 1) * width)
      return Array.from(line.keys())
        .filter((k) => line[k] === 0)
        .map((k) => keys[row * width + k]!)
        .sort((a, b) => a - b)
    },
    queries,
    places,
    beginnings,
    feeds
  }
}

describe("a layout", () => {
  it("lets a token see what comes before it in its own sequence, and nothing else", () => {
    fc.assert(
      fc.property(groups, (of) => {
        const { groups, rows } = numbered(of)
        for (const layout of [Layout.apart(rows), Layout.make(rows, groups)]) {
          const { id, position, seen } = read(layout)
          rows.forEach((row, r) =>
            row.forEach((token, t) => {
              const place = layout.at(r, t)
              expect([id(place), position(place)]).toEqual([token, t])
              const before = Array.from({ length: t + 1 }, (_, k) => layout.at(r, k))
              expect(seen(place)).toEqual(before.toSorted((a, b) => a - b))
            })
          )
        }
      }),
      { numRuns: 50 }
    )
  })

  it("has one token that is nobody's where the rows of its attention are not full, and none where they are", () => {
    fc.assert(
      fc.property(groups, (of) => {
        const { groups, rows } = numbered(of)
        const layout = Layout.make(rows, groups)
        const { places, queries, size } = read(layout)
        expect(size - layout.tokens).toBe(queries.length > layout.tokens ? 1 : 0)
        // There and back again, so that gradients go the way that the tokens came.
        places.forEach((place, token) => expect(queries[place]).toBe(token))
        if (size > layout.tokens) expect(queries.filter((token) => token >= layout.tokens).length).toBeGreaterThan(0)
      }),
      { numRuns: 50 }
    )
  })

  it("has rows of a place for each part of their queries at least, that of a single token, too", () => {
    const { feeds } = read(Layout.apart([[5]]))
    // The gradient of a part without queries would be whatever stood in the memory.
    expect(feeds["queries"]!.dims).toEqual([1, RaggedHeads.parts])
    expect(feeds["seen"]!.dims).toEqual([1, 1, RaggedHeads.parts, RaggedHeads.parts])
  })

  it("says nothing of beginnings where none may be shared", () => {
    const { feeds } = read(Layout.apart([[5, 6], [5]]))
    expect(Object.keys(feeds).toSorted()).toEqual(["ids", "places", "positions", "queries", "seen"])
    expect(Layout.shares(feeds)).toBe(false)
    expect(Layout.shares(Layout.make([[5, 6], [5]], [[0], [1]]).feeds())).toBe(true)
  })

  it("gathers the gradients of a beginning from the rows that have it", () => {
    const [a, b] = [
      [7, 8, 1],
      [7, 8, 2, 3]
    ]
    const { beginnings, feeds } = read(Layout.make([[5, 6], a!, b!], [[0], [1, 2]]))
    // Beginning 0 is [7, 8], after the two tokens of the first row; beginning 1 is nobody's.
    expect(beginnings.slice(0, 7)).toEqual([2, 2, 0, 1, 2, 2, 2])
    expect(feeds["sizes"]!.data).toEqual(BigInt64Array.of(2n, 2n))
    // Rows of attention: [5, 6], [7, 8], then [2, 3] and [1] after the beginning.
    expect(Array.from(feeds["rows_of"]!.data as Float32Array)).toEqual([0, 0, 1, 1, 0, 0, 0, 0])
  })

  it("has what the rows of a group have in common only once", () => {
    const rows = [
      [7, 8, 1],
      [7, 8, 2, 3]
    ]
    const layout = Layout.make(rows, [[0, 1]])
    expect(layout.tokens).toBe(5)
    expect(Layout.familyTokens(rows)).toBe(5)
    expect([layout.at(0, 1), layout.at(1, 1), layout.at(0, 2), layout.at(1, 2)]).toEqual([1, 1, 2, 3])
  })

  it("shares only where that is less work", () => {
    const row = (shared: number, own: number, seed: number) => [
      ...Array<number>(shared).fill(1),
      ...Array<number>(own).fill(seed)
    ]
    expect(Layout.pays([row(60, 100, 2), row(60, 100, 3)])).toBe(true)
    expect(Layout.pays([row(1, 500, 2), row(1, 500, 3)])).toBe(false)
    expect(Layout.pays([row(60, 100, 2)])).toBe(false)
  })
})

const integers = (numbers: ReadonlyArray<number>) => Session.int64(numbers, [numbers.length])

/** A first step without clipping: the first moment is a tenth of the gradient. */
const rates = { learningRates: [1], weightDecays: [0], maxGradNorm: 1e9 }

describe("learning from rows that share their beginning", () => {
  const prompt = [11, 12, 13, 14, 15, 16, 17, 18, 19]
  const answers = [[20, 21], [20, 22, 23], [24], [25, 26, 27, 28]]

  /** The step of an objective over micro-batches, on the tiny model's adapter. */
  const step = Effect.fnUntraced(function* (
    objective: Objective.Objective,
    batch: ReadonlyArray<Learner.MicroBatch>,
    score = false
  ) {
    const { checkpoint } = yield* Golden.load
    const config = { rank: 4, alpha: 8, targets: Lora.allTargets(checkpoint.config) }
    const lora = yield* Effect.fromResult(Lora.init(checkpoint.config, config, 3, { score }))
    const adapter = Adapters.fromLora(lora, checkpoint.config)
    // B is zero at first, and then the gradient of A would be zero as well.
    adapter.vector.forEach((x, i) => (adapter.vector[i] = x + 0.01 * Math.sin(i)))
    const learner = yield* Learner.make(checkpoint, adapter, objective, { microTokens: 128 })
    const state = Learner.initialState(adapter.vector)
    const metrics = yield* learner.step(state, batch, rates)
    return { metrics, gradient: state.m.map((x) => 10 * x) }
  })

  const agree = Effect.fnUntraced(function* (
    objective: Objective.Objective,
    together: ReadonlyArray<Learner.MicroBatch>,
    apart: ReadonlyArray<Learner.MicroBatch>,
    score = false
  ) {
    const width = (batch: ReadonlyArray<Learner.MicroBatch>) =>
      batch.reduce((n, { tokens }) => n + tokens()["ids"]!.size, 0)
    expect(width(together)).toBeLessThan(width(apart))
    const [a, b] = [yield* step(objective, together, score), yield* step(objective, apart, score)]
    expect(Golden.largest(b.gradient)).toBeGreaterThan(1e-3)
    expect(Golden.distance(a.gradient, b.gradient)).toBeLessThan(1e-5 * Math.max(1, Golden.largest(b.gradient)))
    for (const [name, x] of Object.entries(b.metrics)) {
      expect(Math.abs(a.metrics[name]! - x), name).toBeLessThan(1e-4 * Math.max(1, Math.abs(x)))
    }
  })

  /** The same feeds with nothing shared. */
  const apart = (
    micro: Learner.MicroBatch,
    rows: ReadonlyArray<ReadonlyArray<number>>,
    feeds: (layout: Layout.Layout) => Learner.MicroBatch["feeds"]
  ): Learner.MicroBatch => {
    const layout = Layout.apart(rows)
    return { tokens: layout.feeds, feeds: { ...micro.feeds, ...feeds(layout) } }
  }

  const pairs = [0, 2].map((i) => ({
    first: [...prompt, ...answers[i]!],
    second: [...prompt, ...answers[i + 1]!],
    from: prompt.length,
    probability: 0.8
  }))
  const sides = [...pairs.map((p) => p.first), ...pairs.map((p) => p.second)]

  it.effect("a micro-batch may hold more tokens than the model has positions", () =>
    Effect.gen(function* () {
      const { checkpoint } = yield* Golden.load
      const short = { ...checkpoint, config: { ...checkpoint.config, maxPositions: 16 } }
      const lora = yield* Lora.read(`${Golden.folder}/adapter`, checkpoint.config)
      const adapter = Adapters.fromLora(lora, checkpoint.config)
      const learner = yield* Learner.make(short, adapter, Objective.sft, { microTokens: 64 })
      const rows = answers.map((answer) => [...prompt, ...answer]).map((ids) => ({ ids, weights: ids.map(() => 1) }))
      const total = Batch.totalWeight(rows)
      expect(Layout.apart(rows.map(({ ids }) => ids)).tokens).toBeGreaterThan(16)
      const together = yield* learner.measure(adapter.vector, [Batch.supervised(rows, total)])
      const alone = yield* learner.measure(
        adapter.vector,
        rows.map((row) => Batch.supervised([row], total))
      )
      expect(Math.abs(together.loss - alone.loss)).toBeLessThan(1e-5)
    })
  )

  it.effect("a reward model's step is the same", () => {
    const together = Batch.preferences(pairs, 2)
    const alone = apart(together, sides, (layout) => ({
      last: integers(sides.map((row, r) => layout.at(r, row.length - 1)))
    }))
    return agree(Objective.bradleyTerry, [together], [alone], true)
  })

  it.effect("a step of direct preference optimisation is the same", () => {
    const together = Batch.directPreferences(pairs, 2, [-1, -2, -3, -4])
    const alone = apart(together, sides, (layout) => {
      const { at } = Batch.targets(Batch.answers(pairs), layout)
      return { at: integers(at) }
    })
    return agree(Objective.dpo({ beta: 0.1, loss: "sigmoid" }), [together], [alone])
  })

  it.effect("a policy's step is the same, for answers to several prompts in any order", () => {
    const rows = [prompt, [5, 6, 7, 8, 9, 10]].flatMap((prompt, p) =>
      answers.map((answer, i): Minibatches.Row => ({
        id: `${p}/${i}`,
        ids: [...prompt, ...answer],
        from: prompt.length,
        perToken: {
          old_logprobs: answer.map((_, t) => -5 - 0.1 * t),
          reference_logprobs: answer.map(() => -5.5),
          advantages: answer.map(() => i - 1.4)
        },
        perSequence: {}
      }))
    )
    const mixed = [...rows.keys()].sort((a, b) => ((a * 5) % 8) - ((b * 5) % 8)).map((i) => rows[i]!)
    const together = Minibatches.collate(mixed, PolicyGradient.aggregate("token"), 64)
    // With no room for two answers together, each stands alone.
    const alone = Minibatches.collate(mixed, PolicyGradient.aggregate("token"), 1)
    expect(alone).toHaveLength(8)
    // A bound on rows cuts families, too.
    const three = Minibatches.collate(mixed, PolicyGradient.aggregate("token"), 640, 3)
    const starts = (ids: Float32Array) => ids.filter((x) => x === -5).length
    expect(three.map(({ feeds }) => starts(Session.floats(feeds["old_logprobs"]!)))).toEqual([3, 3, 2])
    const objective = Objective.grpo({ clip: 0.2, beta: 0.1 })
    return Effect.andThen(agree(objective, together, alone), agree(objective, three, alone))
  })
})
