import { Effect } from "effect"
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"

/** A folder of its own, removed when the test ends. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(path.join(tmpdir(), "charter-model-"))),
  (dir) => Effect.promise(() => fs.rm(dir, { recursive: true, force: true }))
)
