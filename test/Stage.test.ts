import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema, Stream } from "effect"
import { Stage } from "../src/index.ts"

interface Item {
  readonly id: string
  readonly n: number
}

const items = (...ns: ReadonlyArray<number>) => Stream.fromIterable(ns.map((n): Item => ({ id: `item ${n}`, n })))

class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Number }) {
  override get message(): string {
    return `${this.n} is odd`
  }
}

class Factor extends Context.Service<Factor, number>()("test/Factor") {}

const halve = Stage.make("halve", ({ id, n }: Item) =>
  n % 2 === 0 ? Effect.succeed<Item>({ id, n: n / 2 }) : Effect.fail(new Odd({ n }))
)

const multiply = Stage.make("multiply", ({ id, n }: Item) =>
  Effect.map(Factor, (factor): Item => ({ id, n: n * factor }))
)

const numbers = (stream: Stream.Stream<Item, unknown>) =>
  Stream.runCollect(stream).pipe(Effect.map((all) => all.map(({ n }) => n)))

const sink = () => {
  const rejected: Array<Stage.Rejected> = []
  return { rejected, to: (sample: Stage.Rejected) => Effect.sync(() => void rejected.push(sample)) }
}

describe("Stage", () => {
  it.effect("fails with the first failed sample where there is no sink", () =>
    Effect.gen(function* () {
      const error = yield* items(2, 3, 4).pipe(halve, Stream.runDrain, Effect.flip)
      expectTypeOf(error).toEqualTypeOf<Odd>()
      assert.strictEqual(error.n, 3)
    })
  )

  it.effect("hands a failed sample to the sink and goes on", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      assert.deepStrictEqual(yield* numbers(items(2, 3, 4).pipe(halve.pipe(Stage.rejectTo(to)))), [1, 2])
      assert.deepStrictEqual(
        rejected.map(({ id, stage, reason, sample }) => ({ id, stage, reason, sample })),
        [
          {
            id: "item 3",
            stage: "halve",
            reason: { tag: "Odd", message: "3 is odd" },
            sample: { id: "item 3", n: 3 }
          }
        ]
      )
    })
  )

  it.effect("has one sink for composed stages, and says which of them it was", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      const quarter = halve.pipe(Stage.compose(halve), Stage.rejectTo(to))
      assert.deepStrictEqual(yield* numbers(items(1, 2, 4).pipe(quarter)), [1])
      assert.deepStrictEqual(
        rejected.map(({ id }) => id),
        ["item 1", "item 2"]
      )
    })
  )

  it.effect("takes a sink for a whole program", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      const program = numbers(items(1, 2).pipe(halve)).pipe(Effect.provideService(Stage.Rejects, to))
      assert.deepStrictEqual(yield* program, [1])
      assert.strictEqual(rejected.length, 1)
    })
  )

  it.effect("keeps a sink to its own stage", () =>
    Effect.gen(function* () {
      const { rejected, to } = sink()
      const error = yield* items(1)
        .pipe(halve, multiply.pipe(Stage.rejectTo(to)), Stream.runDrain, Effect.flip)
        .pipe(Effect.provideService(Factor, 1))
      assert.strictEqual(error._tag, "Odd")
      assert.strictEqual(rejected.length, 0)
    })
  )

  it.effect("ends the stream when the sink fails, as a spent budget does", () =>
    Effect.gen(function* () {
      const error = yield* items(1, 2).pipe(
        halve.pipe(Stage.rejectTo(() => Effect.fail("too many failures" as const))),
        Stream.runDrain,
        Effect.flip
      )
      expectTypeOf(error).toEqualTypeOf<Odd | "too many failures">()
      assert.strictEqual(error, "too many failures")
    })
  )

  it.effect("gives one stage its own services and leaves the others theirs", () =>
    Effect.gen(function* () {
      const program = items(1, 2).pipe(multiply, multiply.pipe(Stage.provide(Layer.succeed(Factor, 10))), multiply)
      assert.deepStrictEqual(yield* numbers(program.pipe(Stream.provideService(Factor, 3))), [90, 180])
    })
  )

  it.effect("keeps the order of samples unless told otherwise", () =>
    Effect.gen(function* () {
      const slow = (options: Stage.Options) =>
        Stage.make(
          "slow",
          (item: Item) => Effect.promise(() => new Promise<Item>((done) => setTimeout(() => done(item), item.n))),
          options
        )
      const ns = [60, 30, 1]
      assert.deepStrictEqual(yield* numbers(items(...ns).pipe(slow({ concurrency: 3 }))), ns)
      assert.deepStrictEqual(yield* numbers(items(...ns).pipe(slow({ concurrency: 3, ordered: false }))), [1, 30, 60])
    })
  )

  it.effect("works on no more samples at a time than it is told", () =>
    Effect.gen(function* () {
      let now = 0
      let most = 0
      const counted = Stage.make(
        "counted",
        (item: Item) =>
          Effect.gen(function* () {
            most = Math.max(most, ++now)
            yield* Effect.yieldNow
            now--
            return item
          }),
        { concurrency: 2 }
      )
      yield* numbers(items(1, 2, 3, 4, 5, 6).pipe(counted))
      assert.strictEqual(most, 2)
    })
  )

  it.effect("lets each result be seen on its way", () =>
    Effect.gen(function* () {
      const seen: Array<number> = []
      yield* numbers(items(2, 4).pipe(halve.pipe(Stage.tap(({ n }) => Effect.sync(() => seen.push(n))))))
      assert.deepStrictEqual(seen, [1, 2])
    })
  )

  it("knows what a stage needs and how it fails", () => {
    expectTypeOf(halve.pipe(Stage.compose(multiply))).toEqualTypeOf<Stage.Stage<Item, Item, Odd, Factor>>()
    const provided = multiply.pipe(Stage.provide(Layer.succeed(Factor, 1)))
    expectTypeOf(provided).toEqualTypeOf<Stage.Stage<Item, Item>>()
    // @ts-expect-error a number has no id to be rejected under
    Stage.make("numbers", (n: number) => Effect.succeed(n))
  })
})
