/**
 * The real model that some tests need: SmolLM2-135M-Instruct as a Hugging Face folder in the user's cache.
 */
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"

/** The model's folder; it may not exist. */
export const dir =
  process.env.CHARTER_TEST_MODEL ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "charter-test", "SmolLM2-135M-Instruct")

/** Whether the model is there: `describe.skipIf(!RealModel.exists)`. */
export const exists = existsSync(join(dir, "config.json"))
