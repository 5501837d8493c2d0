/**
 * StepLines: a JSONL file of a training, each line of which belongs to a step.
 */
import { Console, Effect, Schema } from "effect"
import { renameSync, writeFileSync, writeSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Atomic from "../recipes/Atomic.ts"
import * as Attempt from "./Attempt.ts"
import { UsageError } from "./UsageError.ts"

/** What a line says. */
export interface Stepped {
  readonly step: number
}

/** A line as it stands in the file, and what it says. */
export interface StepLine<A> {
  readonly text: string
  readonly value: A
}

/** Whether a line says which step it belongs to. */
export const isStepped: (value: unknown) => value is Stepped = Schema.is(Schema.Struct({ step: Schema.Int }))

/**
 * The lines of a file, none where there is no file. A torn last line has no end and belongs to a step that is done
 * again, so it is left out; another line that cannot be read is a damage, which is not mended in silence.
 */
export const read = Effect.fnUntraced(function* <A extends Stepped>(
  file: string,
  isWhole: (value: unknown) => value is A
) {
  const text = (yield* Attempt.read(file, () => Atomic.readUnsafe(file))) ?? ""
  const lines = text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1)
  const found: Array<StepLine<A>> = []
  for (const [i, text] of lines.entries()) {
    const value = parsed(text)
    if (!isWhole(value)) {
      return yield* new UsageError({
        message: `Line ${i + 1} of ${file} is damaged; delete that line to go on without it.`
      })
    }
    found.push({ text, value })
  }
  return found as ReadonlyArray<StepLine<A>>
})

/** Writes a file anew: it has the old lines or the new ones, whenever the program ends. */
export const replace = (file: string, text: string) =>
  Attempt.write(file, () => {
    const beside = Atomic.unfinished(file)
    writeFileSync(beside, text)
    renameSync(beside, file)
  })

/**
 * Keeps of a file the lines of finished steps alone, and returns them. Tells of such steps without a line: they were
 * deleted, or lost when the machine itself went down. What is learnt does not depend on them.
 */
export const keep = Effect.fnUntraced(function* <A extends Stepped>(
  file: string,
  lines: ReadonlyArray<StepLine<A>>,
  finished: number
) {
  const kept = lines.filter(({ value }) => value.step <= finished)
  const missing = finished - new Set(kept.map(({ value }) => value.step)).size
  if (missing > 0) {
    yield* Console.error(
      `${file} has no line of ${missing} of the ${finished} finished steps and is gone on with; to have them again, stop and delete ${join(dirname(file), "state")}.`
    )
  }
  yield* replace(file, kept.map(({ text }) => `${text}\n`).join(""))
  return kept.map(({ value }) => value)
})

/** Adds a line for each value to a file, which is open. */
export const append = (file: string, fd: number, values: ReadonlyArray<Stepped>) =>
  Attempt.write(file, () => {
    const bytes = Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join(""))
    let done = 0
    while (done < bytes.length) done += writeSync(fd, bytes, done)
  })

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
