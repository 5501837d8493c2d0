import { appendFileSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Stage } from "../src/index.ts"
import { workplace } from "./workplace.ts"

const Item = Schema.Struct({ id: Schema.String, n: Schema.Number })
type Item = typeof Item.Type

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

  it.effect("says in words what failed, whatever it is, and hands over any sample", () =>
    Effect.gen(function* () {
      const reject = Effect.fnUntraced(function* (failure: unknown) {
        const { rejected, to } = sink()
        const stage = Stage.make("fail", () => Effect.fail(failure))
        yield* Stream.make({ id: "1", count: 10n }).pipe(stage.pipe(Stage.rejectTo(to)), Stream.runDrain)
        assert.deepStrictEqual(rejected[0]?.sample, { id: "1", count: "10n" })
        return rejected[0]?.reason
      })
      assert.deepStrictEqual(yield* reject({ _tag: "Slow", message: "too slow" }), { tag: "Slow", message: "too slow" })
      assert.deepStrictEqual(yield* reject({ status: 503 }), { tag: "Error", message: '{"status":503}' })
      assert.deepStrictEqual(yield* reject("too slow"), { tag: "Error", message: "too slow" })
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

  it.effect("pulls nothing faster than it is used", () =>
    Effect.gen(function* () {
      let pulled = 0
      const source = Stream.fromEffectRepeat(
        Effect.sync((): Item => {
          const n = ++pulled
          return { id: `item ${n}`, n }
        })
      )
      const through = (options: Stage.Options) =>
        Stage.make("first", (item: Item) => Effect.succeed(item), options).pipe(
          Stage.compose(Stage.make("second", (item: Item) => Effect.succeed(item), options))
        )
      yield* source.pipe(through({ concurrency: 1 }), Stream.take(3), Stream.runDrain)
      assert.isAtMost(pulled, 4)

      pulled = 0
      const most = yield* source.pipe(
        through({ concurrency: 4 }),
        Stream.take(50),
        // How far the source is ahead of a slow reader.
        Stream.mapEffect(({ n }) => Effect.as(Effect.yieldNow, pulled - n)),
        Stream.runFold(() => 0, Math.max)
      )
      // What two stages work on at a time, and one in each place between them; without a bound it would be all.
      assert.isAtMost(most, 20)
    })
  )

  it.effect("lets each result be seen on its way", () =>
    Effect.gen(function* () {
      const seen: Array<number> = []
      yield* numbers(items(2, 4).pipe(halve.pipe(Stage.tap(({ n }) => Effect.sync(() => seen.push(n))))))
      assert.deepStrictEqual(seen, [1, 2])
    })
  )

  it.effect("names the span of each sample, without looking for where it was called", () =>
    Effect.gen(function* () {
      const named = yield* Effect.currentSpan.pipe(
        Effect.map(({ name }) => name),
        Stage.span("Mine.one")
      )
      assert.strictEqual(named, "Mine.one")
    })
  )

  it("knows what a stage needs and how it fails", () => {
    expectTypeOf(halve.pipe(Stage.compose(multiply))).toEqualTypeOf<Stage.Stage<Item, Item, Odd, Factor>>()
    const provided = multiply.pipe(Stage.provide(Layer.succeed(Factor, 1)))
    expectTypeOf(provided).toEqualTypeOf<Stage.Stage<Item, Item>>()
    // @ts-expect-error a number has no id to be rejected under
    Stage.make("numbers", (n: number) => Effect.succeed(n))
  })

  it.each([0, -2, 1.5, NaN])("works on no %s samples at a time", (concurrency) => {
    const said = `concurrency is ${concurrency}; it is a whole number of 1 or more.`
    const stage = (options: Stage.Options) => Stage.make("same", (item: Item) => Effect.succeed(item), options)
    assert.throws(() => stage({ concurrency }), said)
    assert.throws(() => Stage.expand("same", (item: Item) => Stream.make(item), { concurrency }), said)
    assert.doesNotThrow(() => [stage({ concurrency: 1 }), stage({ concurrency: "unbounded" })])
  })
})

describe("Stage.checkpoint", () => {
  /** A file in a folder of its own. */
  const file = Effect.sync(() => join(workplace(), "deeper", "halves.jsonl"))

  /** A stage that halves and counts how often it is asked. */
  const counted = () => {
    const asked: Array<number> = []
    const stage = Stage.make("halve", (item: Item) =>
      Effect.suspend(() => {
        asked.push(item.n)
        return item.n % 2 === 0 ? Effect.succeed<Item>({ id: item.id, n: item.n / 2 }) : Effect.fail(new Odd(item))
      })
    )
    return { asked, stage }
  }

  it.effect("asks only for what is not in the file, and gives everything in the order of the samples", () =>
    Effect.gen(function* () {
      const { asked, stage } = counted()
      const kept = stage.pipe(Stage.checkpoint({ file: yield* file, schema: Item }))
      expectTypeOf(kept).toEqualTypeOf<Stage.Stage<Item, Item, Odd | Stage.JournalError>>()
      assert.deepStrictEqual(yield* numbers(items(2, 6).pipe(kept)), [1, 3])
      assert.deepStrictEqual(yield* numbers(items(2, 4, 6, 8).pipe(kept)), [1, 2, 3, 4])
      assert.deepStrictEqual(asked, [2, 6, 4, 8])
    })
  )

  it.effect("replays nothing that is not asked for", () =>
    Effect.gen(function* () {
      const kept = counted().stage.pipe(Stage.checkpoint({ file: yield* file, schema: Item }))
      yield* numbers(items(2, 4, 6).pipe(kept))
      assert.deepStrictEqual(yield* numbers(items(4).pipe(kept)), [2])
    })
  )

  it.effect("tries a rejected sample again on the next start", () =>
    Effect.gen(function* () {
      const { asked, stage } = counted()
      const { rejected, to } = sink()
      const kept = stage.pipe(Stage.checkpoint({ file: yield* file, schema: Item }), Stage.rejectTo(to))
      assert.deepStrictEqual(yield* numbers(items(2, 3, 4).pipe(kept)), [1, 2])
      assert.deepStrictEqual(yield* numbers(items(2, 3, 4).pipe(kept)), [1, 2])
      assert.deepStrictEqual(asked, [2, 3, 4, 3])
      assert.strictEqual(rejected.length, 2)
    })
  )

  it.effect("cuts off a torn last line and makes it again", () =>
    Effect.gen(function* () {
      const path = yield* file
      const { asked, stage } = counted()
      const kept = stage.pipe(Stage.checkpoint({ file: path, schema: Item }))
      yield* numbers(items(2, 4).pipe(kept))
      const whole = readFileSync(path, "utf8")
      writeFileSync(path, whole.slice(0, -9))
      assert.deepStrictEqual(yield* numbers(items(2, 4).pipe(kept)), [1, 2])
      assert.deepStrictEqual(asked, [2, 4, 4])
      assert.strictEqual(readFileSync(path, "utf8"), whole)
    })
  )

  it.effect("goes on from wherever the file was torn", () =>
    Effect.gen(function* () {
      const path = yield* file
      const kept = counted().stage.pipe(Stage.checkpoint({ file: path, schema: Item }))
      yield* numbers(items(2, 4, 6).pipe(kept))
      const whole = readFileSync(path)
      for (let length = 0; length <= whole.length; length++) {
        writeFileSync(path, whole.subarray(0, length))
        const { asked, stage } = counted()
        const again = stage.pipe(Stage.checkpoint({ file: path, schema: Item }))
        assert.deepStrictEqual(yield* numbers(items(2, 4, 6).pipe(again)), [1, 2, 3])
        const lines = whole.toString().slice(0, length).split("\n").length - 1
        assert.deepStrictEqual(asked, [2, 4, 6].slice(lines))
        assert.isTrue(readFileSync(path).equals(whole))
      }
    })
  )

  it.effect("names a damaged line in the middle and what to do", () =>
    Effect.gen(function* () {
      const path = yield* file
      const kept = counted().stage.pipe(Stage.checkpoint({ file: path, schema: Item }))
      yield* numbers(items(2).pipe(kept))
      appendFileSync(path, '{"key": "item 4"\n')
      const error = yield* numbers(items(2).pipe(kept)).pipe(Effect.flip)
      assert.instanceOf(error, Stage.JournalError)
      assert.include(String(error), `${path}:2: is damaged; delete this line`)
    })
  )

  it.effect("gives each sample its own records where several streams share a file", () =>
    Effect.gen(function* () {
      const pass = Stage.make("pass", (item: Item) => Effect.as(Effect.yieldNow, item))
      const kept = pass.pipe(Stage.checkpoint({ file: yield* file, schema: Item, concurrency: 1 }))
      const twice = (...ns: ReadonlyArray<number>) => items(...ns, ...ns).pipe(kept)
      const [odd, even] = yield* Effect.all([numbers(twice(1, 3, 5)), numbers(twice(2, 4, 6))], { concurrency: 2 })
      assert.deepStrictEqual(
        [odd, even],
        [
          [1, 3, 5, 1, 3, 5],
          [2, 4, 6, 2, 4, 6]
        ]
      )
    })
  )

  it.effect("replays what JSON has no form for as it was", () =>
    Effect.gen(function* () {
      const Scored = Schema.Struct({
        id: Schema.String,
        at: Schema.Date,
        scores: Schema.ReadonlyMap(Schema.String, Schema.Number)
      })
      let asked = 0
      const score = Stage.make("score", ({ id }: Item) =>
        Effect.sync(() => ({ id, at: new Date(++asked), scores: new Map([["harm", Number.NaN]]) }))
      )
      const kept = items(1).pipe(score.pipe(Stage.checkpoint({ file: yield* file, schema: Scored })))
      const made = yield* Stream.runCollect(kept)
      assert.deepStrictEqual(yield* Stream.runCollect(kept), made)
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("says which sample a record was made of that is none of the schema's", () =>
    Effect.gen(function* () {
      class Scored extends Schema.Class<Scored>("Scored")({ id: Schema.String, score: Schema.Number }) {}
      const score = Stage.make("score", ({ id, n }: Item) => Effect.succeed({ ...new Scored({ id, score: n }) }))
      const kept = score.pipe(Stage.checkpoint({ file: yield* file, schema: Scored }))
      const error = yield* items(1).pipe(kept, Stream.runDrain, Effect.flip)
      assert.include(
        error.message,
        "cannot hold what was made of item 1 (Expected Scored at [0]); { ...record } is no record"
      )
    })
  )

  it.effect("finds samples by a key of one's own", () =>
    Effect.gen(function* () {
      const path = yield* file
      const { asked, stage } = counted()
      const under = (settings: string) =>
        stage.pipe(Stage.checkpoint({ file: path, schema: Item, key: (item: Item) => `${settings}/${item.id}` }))
      yield* numbers(items(2).pipe(under("a")))
      yield* numbers(items(2).pipe(under("b")))
      yield* numbers(items(2).pipe(under("b")))
      assert.deepStrictEqual(asked, [2, 2])
    })
  )

  it.effect("loses at most what was under way when the stream is interrupted", () =>
    Effect.gen(function* () {
      const path = yield* file
      const reached = yield* Deferred.make<void>()
      const stuck = Stage.make("stuck", (item: Item) =>
        item.n === 3 ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) : Effect.succeed(item)
      )
      const fiber = yield* Effect.forkChild(
        numbers(items(1, 2, 3, 4).pipe(stuck.pipe(Stage.checkpoint({ file: path, schema: Item, concurrency: 1 }))))
      )
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(readFileSync(path, "utf8").split("\n").length - 1, 2)
    })
  )
})
