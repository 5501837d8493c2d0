/**
 * Folder: makes a folder and those around it.
 *
 * Node's own way says of a read-only file system that there is no such folder, and never ends under `/proc`.
 *
 * @internal
 */
import { Effect, PlatformError } from "effect"
import { existsSync, mkdirSync, statSync } from "node:fs"
import { dirname } from "node:path"

/** Makes a folder where there is none. */
export const make = (dir: string): Effect.Effect<void, PlatformError.PlatformError> =>
  Effect.try({
    try: () => makeUnsafe(dir),
    catch: (cause) =>
      PlatformError.systemError({
        _tag: "Unknown",
        module: "FileSystem",
        method: "makeDirectory",
        description: String(cause),
        pathOrDescriptor: dir,
        cause
      })
  })

/** The same; throws what the system says. */
export const makeUnsafe = (dir: string): void => {
  const around = dirname(dir)
  if (around !== dir && !existsSync(around)) makeUnsafe(around)
  try {
    mkdirSync(dir)
  } catch (error) {
    // It may have been there before, or another process may have made it meanwhile.
    if (!isFolder(dir)) throw error
  }
}

const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory()
