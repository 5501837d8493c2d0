import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Exit, Fiber } from "effect"
import * as fc from "fast-check"
import { existsSync, linkSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as StepLines from "../../src/cli/StepLines.ts"
import { workplace } from "../workplace.ts"

/** How many bytes of a file are read at once. */
const chunk = 2 ** 16

interface Line extends StepLines.Stepped {
  readonly text: string
}

const line = (step: number, text = "") => `${JSON.stringify({ step, text })}\n`

/** A file of its own. */
const fileOf = (...parts: ReadonlyArray<string>) => {
  const file = join(workplace(), "lines.jsonl")
  writeFileSync(file, parts.join(""))
  return file
}

/** Goes on with a file; what its lines say, of all steps, what the file is then, and what was told. */
const resumed = Effect.fnUntraced(function* (file: string, finished: number) {
  const told: Array<string> = []
  const console = { ...globalThis.console, error: (words: string) => void told.push(words) }
  const isLine = (value: StepLines.Stepped): value is Line => "text" in value
  const values = yield* StepLines.resume(file, finished, StepLines.isStepped, isLine).pipe(
    Effect.provideService(Console.Console, console as Console.Console)
  )
  return { values, told, text: existsSync(file) ? readFileSync(file, "utf8") : undefined }
})

describe("a file of steps that is gone on with", () => {
  it.effect("has the lines of the finished steps, however lines lie across what is read at once", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              step: fc.integer({ min: 1, max: 5 }),
              word: fc.string({ unit: "binary", maxLength: 4 }),
              times: fc.oneof(fc.nat(4), fc.nat(chunk))
            }),
            { maxLength: 12 }
          ),
          fc.constantFrom("", '{"step":', "€".repeat(chunk)),
          fc.integer({ min: 0, max: 5 }),
          async (rows, torn, finished) => {
            const lines = rows.map(({ step, word, times }) => line(step, word.repeat(times)))
            const { text, values } = await Effect.runPromise(resumed(fileOf(...lines, torn), finished))
            assert.deepStrictEqual(
              values,
              lines.map((line) => JSON.parse(line))
            )
            const kept = lines.filter((_, i) => rows[i]!.step <= finished)
            // Compared first: a difference of so many characters takes minutes to be shown.
            assert.isTrue(text === kept.join(""))
          }
        ),
        { numRuns: 50 }
      )
    )
  )

  it.effect("is cut at the byte, wherever a character lies across what is read at once", () =>
    Effect.gen(function* () {
      const second = line(2, "😀é€")
      for (let room = 0; room <= Buffer.byteLength(second); room++) {
        const first = line(1, "a".repeat(chunk - line(1).length - room))
        const kept = [first, second]
        const { text, values } = yield* resumed(fileOf(...kept, line(3), '{"step":4,"te'), 2)
        assert.strictEqual(values[1]!.text, "😀é€")
        assert.isTrue(text === kept.join(""))
      }
    })
  )

  it.effect("is not written anew: what is kept stays where it is on the disk", () =>
    Effect.gen(function* () {
      const file = fileOf(line(1), line(2))
      linkSync(file, `${file}.link`)
      yield* resumed(file, 1)
      assert.strictEqual(readFileSync(`${file}.link`, "utf8"), line(1))
    })
  )

  it.effect("is not left with what an earlier version had begun to write anew", () =>
    Effect.gen(function* () {
      const file = fileOf(line(1))
      writeFileSync(`${file}.tmp`, "{")
      yield* resumed(file, 1)
      assert.isFalse(existsSync(`${file}.tmp`))
    })
  )

  it.effect("may be longer than any text, also by what a machine that went down has left at its end", () =>
    Effect.gen(function* () {
      const file = fileOf(line(1))
      // Zeros that take no room on the disk.
      truncateSync(file, 513 * 2 ** 20)
      assert.strictEqual((yield* resumed(file, 1)).text, line(1))
    })
  )

  it.effect("names a damaged line far behind, and is then left as it was", () =>
    Effect.gen(function* () {
      const lines = Array.from({ length: 400 }, (_, i) => line(i + 1, "a".repeat(1000)))
      const file = fileOf(...lines.with(300, "\n"))
      const error = yield* Effect.flip(resumed(file, 10))
      assert.strictEqual(error.message, `Line 301 of ${file} is damaged; delete that line to go on without it.`)
      assert.strictEqual(statSync(file).size, lines.with(300, "\n").join("").length)
    })
  )

  it.effect("tells of finished steps without a line, and is not made where there is none", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "lines.jsonl")
      const { text, told, values } = yield* resumed(file, 2)
      assert.deepStrictEqual([text, values], [undefined, []])
      assert.match(told.join(), /lines\.jsonl has no line of 2 of the 2 finished steps and is gone on with/)
      const some = yield* resumed(fileOf(line(1), line(1), line(3)), 3)
      assert.match(some.told.join(), /has no line of 1 of the 3 finished steps/)
    })
  )

  it.live("is left as it was by an interruption, which is heard while a large one is read", () =>
    Effect.gen(function* () {
      const file = fileOf(...Array.from({ length: 400 }, (_, i) => line(i + 1, "a".repeat(1000))))
      const { size } = statSync(file)
      const fiber = yield* Effect.forkChild(resumed(file, 0))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.strictEqual(statSync(file).size, size)
    })
  )
})
