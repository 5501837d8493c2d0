/**
 * Wrong: what is wrong with the options of a request, before it crosses to the engine.
 *
 * @internal
 */
import { Result, Schema } from "effect"

/** The end of a sentence that names the option and its value; undefined where nothing is wrong. */
export const wrong = <S extends Schema.Decoder<unknown>>(schema: S): ((options: unknown) => string | undefined) => {
  const decode = Schema.decodeUnknownResult(schema, { reportInput: true })
  return (options) => {
    const decoded = decode(options)
    if (Result.isSuccess(decoded)) return undefined
    const [fact, path = ""] = decoded.failure.message.split("\n")
    const names = Array.from(path.matchAll(/\["?([^\]"]+)"?\]/g), ([, name]) => name)
    return `${names.join(".") || "the options"}: ${fact!.replace(/^./, (first) => first.toLowerCase()).replace(", got ", ", not ")}`
  }
}
