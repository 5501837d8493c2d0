/**
 * Atomic: files that are either the old ones or the new ones, never half of either.
 */
import { Effect } from "effect"
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { failed, type RunError } from "./RunError.ts"

/** Writes the value beside the file and renames it into place. */
export const writeJson = (file: string, value: unknown): Effect.Effect<void, RunError> =>
  Effect.try({
    try: () => writeJsonUnsafe(file, value),
    catch: (cause) => failed(`${file} cannot be written: ${reasonOf(cause)}.`)
  })

/** {@link writeJson} outside of an effect; throws. */
export const writeJsonUnsafe = (file: string, value: unknown): void => {
  mkdirSync(dirname(file), { recursive: true })
  const beside = `${file}.${process.pid}.tmp`
  writeFileSync(beside, `${JSON.stringify(value, null, 2)}\n`)
  renameSync(beside, file)
}

/** The value in the file, or undefined when there is no such file. */
export const readJson = (file: string): Effect.Effect<unknown, RunError> =>
  Effect.try({
    try: () => readJsonUnsafe(file),
    catch: (cause) => failed(`${file} cannot be read: ${reasonOf(cause)}.`)
  })

const readJsonUnsafe = (file: string): unknown => {
  let text: string
  try {
    text = readFileSync(file, "utf8")
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw error
  }
  return JSON.parse(text)
}

/** What the operating system said, without a stack. */
export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
