/**
 * AdapterBase: whether an adapter was made for the model that it is used with.
 *
 * An adapter fits every model of the same shapes, such as another fine-tuning of one model, and means something on its
 * own alone. PEFT writes down which that is, and compares nothing.
 */
import { Console, Effect, Option, Schema } from "effect"
import { existsSync, realpathSync } from "node:fs"
import { join } from "node:path"
import * as HubCache from "../hub/HubCache.ts"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as Fingerprint from "../model/Fingerprint.ts"
import * as ModelFile from "../model/ModelFile.ts"

const named = Schema.decodeUnknownOption(Schema.Struct({ base_model_name_or_path: Schema.NonEmptyString }))

/**
 * The model that an adapter's configuration names, if it is certainly another one than `checkpoint`: a folder of this
 * machine with other files, or another name on the hub. A folder that is not here any more says nothing.
 */
export const other = Effect.fnUntraced(function* (dir: string, checkpoint: Checkpoint.Checkpoint) {
  const json = yield* ModelFile.readJson(join(dir, "adapter_config.json"))
  const base = Option.getOrUndefined(named(json))?.base_model_name_or_path
  // An adapter comes from other people: what it names must not make Windows sign in at another machine.
  if (base === undefined || /^[\\/]{2}/.test(base)) return undefined
  if (!existsSync(join(base, "config.json"))) {
    const given = HubCache.snapshotOf(checkpoint.dir)
    return given !== undefined && HubCache.isName(base) && given.name !== base ? base : undefined
  }
  if (realpathSync(base) === checkpoint.dir) return undefined
  const meant = yield* Fingerprint.of(yield* Checkpoint.open(base))
  return meant === (yield* Fingerprint.of(checkpoint)) ? undefined : base
})

/** Says on standard error that an adapter was made for another model; what cannot be compared is passed over. */
export const tell = (dir: string, checkpoint: Checkpoint.Checkpoint): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.orElseSucceed(other(dir, checkpoint), () => undefined),
    (base) =>
      base === undefined
        ? Effect.void
        : Console.error(
            `Note: ${dir} was made for ${base}, which is not ${checkpoint.dir}: over other weights it does not do what it was trained to.`
          )
  )
