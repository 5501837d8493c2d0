import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as fc from "fast-check"
import { appendFileSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Log from "../../src/recipes/Log.ts"
import { workplace } from "../workplace.ts"

const Row = Schema.Struct({ id: Schema.String, n: Schema.Number })

const open = (file: string, sources?: ReadonlyArray<string>) =>
  Log.open({ file, schema: Row, key: ({ id }) => id, sources })

const line = (id: string, n: number) => `${JSON.stringify({ id, n })}\n`

describe("a log", () => {
  it.effect("keeps the first record of a place, also when it is opened again", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "a/b/rows.jsonl")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const log = yield* open(file)
          yield* log.append({ id: "a", n: 1 })
          yield* log.append({ id: "a", n: 2 })
          yield* log.append({ id: "b", n: 3 })
          assert.strictEqual(log.get("a")?.n, 1)
        })
      )
      const log = yield* open(file)
      assert.deepStrictEqual(log.values(), [
        { id: "a", n: 1 },
        { id: "b", n: 3 }
      ])
      assert.isUndefined(log.get("c"))
    }).pipe(Effect.scoped)
  )

  it.effect("gives back what JSON has no form for as it was", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rows.jsonl")
      const schema = Schema.Struct({ id: Schema.String, at: Schema.Date, n: Schema.Number })
      const row = { id: "a", at: new Date(0), n: Number.NaN }
      const opened = Log.open({ file, schema, key: ({ id }) => id })
      yield* Effect.scoped(Effect.flatMap(opened, (log) => log.append(row)))
      assert.deepStrictEqual((yield* opened).values(), [row])
    }).pipe(Effect.scoped)
  )

  it.effect("is settled in the order of the keys, and goes on after that", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rows.jsonl")
      const log = yield* open(file)
      for (const [i, id] of ["d", "x", "b", "a"].entries()) yield* log.append({ id, n: i })
      yield* log.settle(["a", "b", "c", "d"])
      yield* log.append({ id: "e", n: 4 })
      assert.strictEqual(
        readFileSync(file, "utf8"),
        [
          ["a", 3],
          ["b", 2],
          ["d", 0],
          ["x", 1],
          ["e", 4]
        ]
          .map(([id, n]) => line(String(id), Number(n)))
          .join("")
      )
      assert.deepStrictEqual(
        log.values().map(({ id }) => id),
        ["a", "b", "d", "x", "e"]
      )
    }).pipe(Effect.scoped)
  )

  it.effect("is the same file whatever the order in which its records were ready", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 12 }), fc.nat(), (ids, cut) =>
          Effect.runPromise(
            Effect.gen(function* () {
              const dir = workplace()
              const write = (file: string, order: ReadonlyArray<string>) =>
                Effect.scoped(
                  Effect.gen(function* () {
                    const log = yield* open(file)
                    for (const id of order) yield* log.append({ id, n: id.length })
                  })
                )
              const [one, other] = [join(dir, "one"), join(dir, "other")]
              yield* write(one, ids)
              // Stopped in between, with a torn line.
              const at = ids.length === 0 ? 0 : cut % ids.length
              yield* write(other, ids.toReversed().slice(0, at))
              appendFileSync(other, '{"id":"to')
              yield* write(other, ids.toReversed())
              yield* Effect.scoped(Effect.flatMap(open(other), (log) => log.settle(ids)))
              assert.strictEqual(readFileSync(other, "utf8"), readFileSync(one, "utf8"))
            })
          )
        ),
        { numRuns: 30 }
      )
    )
  )

  it.effect("takes over a record of another file when it is asked for, and no other", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const [file, before] = [join(dir, "rows.jsonl"), join(dir, "before.jsonl")]
      writeFileSync(before, line("a", 1) + line("b", 2) + '{"id":"to')
      const log = yield* open(file, [before, join(dir, "missing.jsonl")])
      assert.isUndefined(log.get("a"))
      assert.deepStrictEqual(yield* log.find("a"), { id: "a", n: 1 })
      assert.isUndefined(yield* log.find("to"))
      assert.strictEqual(readFileSync(file, "utf8"), line("a", 1))
      assert.strictEqual(readFileSync(before, "utf8"), line("a", 1) + line("b", 2) + '{"id":"to')
    }).pipe(Effect.scoped)
  )

  it.effect("names a damaged line", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rows.jsonl")
      writeFileSync(file, line("a", 1) + '{"id":"b","n":"two"}\n')
      const error = yield* Effect.flip(open(file))
      assert.strictEqual(error.message, `Line 2 of ${file} is damaged; delete that line, and its record is made again.`)
    }).pipe(Effect.scoped)
  )
})
