/** A program in the thread of an engine: it begins there when it is bundled into one file with the engine. */
import { Effect } from "effect"
import * as EngineWorker from "../../src/engine/EngineWorker.ts"

await Effect.runPromise(Effect.scoped(EngineWorker.client({ dir: "nowhere" })))
process.exit()
