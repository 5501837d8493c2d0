/**
 * Attempt: what the operating system refuses, as one sentence that names the file.
 */
import { Effect } from "effect"
import * as Atomic from "../recipes/Atomic.ts"
import { failed } from "../recipes/RunError.ts"
import type { RunError } from "../recipes/RunError.ts"

/** Writes to a file of a training. */
export const write = <A>(file: string, f: () => A): Effect.Effect<A, RunError> =>
  Effect.try({ try: f, catch: (cause) => failed(`${file} cannot be written: ${Atomic.reasonOf(cause)}.`) })

/** Reads from one. */
export const read = <A>(file: string, f: () => A): Effect.Effect<A, RunError> =>
  Effect.try({ try: f, catch: (cause) => failed(`${file} cannot be read: ${Atomic.reasonOf(cause)}.`) })
