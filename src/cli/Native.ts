/**
 * Native: the modules that load ONNX Runtime, imported when a command needs them.
 *
 * So a wrong argument is answered at once, and a machine that the runtime has no binary for is told so in a sentence.
 */
import { Effect } from "effect"
import { UsageError } from "./UsageError.ts"

/** How Node names a binary that is not there, one that the system cannot load, and one that it may not load. */
const unloadable: ReadonlyArray<string | undefined> = ["MODULE_NOT_FOUND", "ERR_DLOPEN_FAILED", "ERR_DLOPEN_DISABLED"]

/** Imports a module that loads ONNX Runtime. */
export const load = <A>(imported: () => Promise<A>): Effect.Effect<A, UsageError> =>
  Effect.tryPromise({ try: imported, catch: (cause) => cause as NodeJS.ErrnoException }).pipe(
    Effect.catch((cause) =>
      unloadable.includes(cause.code)
        ? Effect.fail(
            new UsageError({
              message: `ONNX Runtime cannot be loaded here (${cause.message.split("\n")[0]}); onnxruntime-node has binaries for Linux with glibc and Windows on x64 and arm64, and for macOS on arm64.`
            })
          )
        : Effect.die(cause)
    )
  )
