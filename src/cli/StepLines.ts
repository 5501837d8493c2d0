/**
 * StepLines: a JSONL file of a training, each line of which belongs to a step.
 *
 * Such a file may be larger than the longest text and than the memory: it is gone through block by block, and what is
 * not to stay is cut off at its end.
 */
import { Console, Effect, Schema } from "effect"
import { closeSync, existsSync, openSync, readSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as LineFile from "../LineFile.ts"
import * as Atomic from "../recipes/Atomic.ts"
import * as Attempt from "./Attempt.ts"
import { UsageError } from "./UsageError.ts"

/** What a line says. */
export interface Stepped {
  readonly step: number
}

/** Whether a line says which step it belongs to. */
export const isStepped: (value: unknown) => value is Stepped = Schema.is(Schema.Struct({ step: Schema.Int }))

/**
 * Goes on with a file after so many finished steps: cuts off the lines of later ones, and gives what was wanted of all
 * that its lines say.
 *
 * A torn last line has no end and belongs to a step that is done again, so it is cut off; another line that cannot be
 * read is a damage, which is not mended in silence. Tells of finished steps without a line: they were deleted, or lost
 * when the machine itself went down. What is learnt does not depend on them.
 */
export const resume = Effect.fnUntraced(function* <A extends Stepped, B extends A>(
  file: string,
  finished: number,
  isWhole: (value: unknown) => value is A,
  isWanted: (value: A) => value is B
) {
  const fd = yield* opened(file)
  const wanted: Array<B> = []
  const steps = new Set<number>()
  const kept: [Span, ...Array<Span>] = [{ start: 0, end: 0 }]
  const blocks = blocksOf(fd)
  let at = 0
  let number = 0
  for (;;) {
    const { done, value: block } = yield* Attempt.read(file, () => blocks.next())
    if (done === true) break
    for (const line of LineFile.of(block)) {
      number++
      const value = parsed(line)
      if (!isWhole(value)) {
        return yield* new UsageError({
          message: `Line ${number} of ${file} is damaged; delete that line to go on without it.`
        })
      }
      if (isWanted(value)) wanted.push(value)
      if (value.step <= finished) {
        steps.add(value.step)
        extend(kept, { start: at, end: at + line.length })
      }
      at += line.length
    }
    // A large file takes a while, in which an interruption is heard.
    yield* Effect.yieldNow
  }
  const missing = finished - steps.size
  if (missing > 0) {
    yield* Console.error(
      `${file} has no line of ${missing} of the ${finished} finished steps and is gone on with; to have them again, stop and delete ${join(dirname(file), "state")}.`
    )
  }
  if (fd !== undefined) yield* Attempt.write(file, () => cut(file, fd, kept))
  return wanted
}, Effect.scoped)

/** Adds a line for each value to a file, which is open. */
export const append = (file: string, fd: number, values: ReadonlyArray<Stepped>) =>
  Attempt.write(file, () => {
    LineFile.appendUnsafe(fd, Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join("")))
  })

/** Bytes of a file, from `start` to before `end`. */
interface Span {
  readonly start: number
  readonly end: number
}

/** How many bytes are read at once. */
const chunk = 2 ** 16

const newline = 0x0a

/** The file for as long as the scope lasts, if there is one. */
const opened = (file: string) =>
  Effect.acquireRelease(
    Attempt.read(file, () => (existsSync(file) ? openSync(file, "r") : undefined)),
    (fd) => Effect.sync(() => fd !== undefined && closeSync(fd))
  )

/**
 * The whole lines of a file, as many at a time as are read at once. They are in the same memory: a block is gone when
 * the next one is asked for.
 */
function* blocksOf(fd: number | undefined): Generator<Buffer, void> {
  if (fd === undefined) return
  const end = LineFile.endUnsafe(fd)
  let bytes = Buffer.allocUnsafe(chunk)
  // How many of the bytes are the beginning of a line whose end is yet to be read.
  let begun = 0
  for (let at = 0; at < end;) {
    if (begun === bytes.length) bytes = Buffer.concat([bytes], 2 * begun)
    const count = readSync(fd, bytes, begun, Math.min(chunk, bytes.length - begun, end - at), at)
    if (count === 0) return
    at += count
    const whole = begun + bytes.subarray(begun, begun + count).lastIndexOf(newline) + 1
    const filled = begun + count
    if (whole === begun) begun = filled
    else {
      yield bytes.subarray(0, whole)
      bytes.copyWithin(0, whole, filled)
      begun = filled - whole
    }
  }
}

const parsed = (line: Buffer): unknown => {
  try {
    return JSON.parse(line.toString())
  } catch {
    return undefined
  }
}

/** Adds a span behind the others; one that begins where the last one ends makes that longer. */
const extend = (spans: [Span, ...Array<Span>], { end, start }: Span): void => {
  const last = spans.at(-1)!
  if (last.end === start) spans[spans.length - 1] = { start: last.start, end }
  else spans.push({ start, end })
}

/** Keeps of a file the spans alone. */
const cut = (file: string, fd: number, spans: readonly [Span, ...Array<Span>]): void => {
  const beside = Atomic.unfinished(file)
  if (spans.length === 1) {
    truncateSync(file, spans[0].end)
    // An earlier version wrote the file anew, and may have been killed then.
    return rmSync(beside, { force: true })
  }
  // Lines in an order that no training writes: what goes is not at the end alone.
  const to = openSync(beside, "w")
  try {
    for (const span of spans) copy(fd, to, span)
  } finally {
    closeSync(to)
  }
  renameSync(beside, file)
}

const copy = (from: number, to: number, { end, start }: Span): void => {
  const bytes = Buffer.allocUnsafe(chunk)
  for (let at = start; at < end;) {
    const count = readSync(from, bytes, 0, Math.min(chunk, end - at), at)
    writeFileSync(to, bytes.subarray(0, count))
    at += count
  }
}
