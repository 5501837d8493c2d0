/**
 * Atomic: files that are either the old ones or the new ones, never half of either.
 */
import { Effect } from "effect"
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Folder from "../Folder.ts"
import { failed, type RunError } from "./RunError.ts"

/** Writes the value beside the file and renames it into place. */
export const writeJson = (file: string, value: unknown): Effect.Effect<void, RunError> =>
  Effect.try({
    try: () => writeUnsafe(file, `${JSON.stringify(value, null, 2)}\n`),
    catch: (cause) => failed(`${file} cannot be written: ${reasonOf(cause)}.`)
  })

/** Writes the content beside the file and renames it into place; throws. */
export const writeUnsafe = (file: string, content: string | Uint8Array): void => {
  Folder.makeUnsafe(dirname(file))
  const beside = unfinished(file)
  writeFileSync(beside, content)
  renameSync(beside, file)
}

/** What a file is called until it is whole. */
const suffix = ".tmp"

/** The file that a writer leaves that is killed. */
export const unfinished = (file: string): string => `${file}${suffix}`

/** Removes what writers that were killed have left in a folder and those in it, but for the folders named; throws. */
export const cleanUnsafe = (dir: string, except: ReadonlyArray<string> = []): void => {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isFile() && entry.name.endsWith(suffix)) rmSync(join(dir, entry.name))
    else if (entry.isDirectory() && !except.includes(entry.name)) cleanUnsafe(join(dir, entry.name))
  }
}

/** The value in the file, or undefined when there is no such file. */
export const readJson = (file: string): Effect.Effect<unknown, RunError> =>
  Effect.try({
    try: () => {
      const text = readUnsafe(file)
      return text === undefined ? undefined : (JSON.parse(text) as unknown)
    },
    catch: (cause) => failed(`${file} cannot be read: ${reasonOf(cause)}.`)
  })

/** The text of the file, or undefined when there is no such file; throws. */
export const readUnsafe = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // A part of its path may be a file, in which there is none either.
    if (code === "ENOENT" || code === "ENOTDIR") return undefined
    throw error
  }
}

/** What the operating system said, without a stack. */
export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
