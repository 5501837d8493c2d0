/**
 * Wrong: what is wrong with the options of a request, before it crosses to the engine.
 *
 * @internal
 */
import { Result, Schema } from "effect"

/** The end of a sentence that names the option; undefined where nothing is wrong. */
export const wrong = <S extends Schema.Decoder<unknown>>(schema: S): ((options: unknown) => string | undefined) => {
  const decode = Schema.decodeUnknownResult(schema)
  return (options) => {
    const decoded = decode(options)
    if (Result.isSuccess(decoded)) return undefined
    const [fact, path = ""] = decoded.failure.message.split("\n")
    const names = Array.from(path.matchAll(/\["?([^\]"]+)"?\]/g), ([, name]) => name!)
    return `${names.join(".") || "the options"}: ${fact!.toLowerCase()}, not ${at(options, names)}`
  }
}

/** The value that lies there, in words. */
const at = (value: unknown, names: ReadonlyArray<string>): string => {
  let found = value
  for (const name of names) found = typeof found === "object" && found !== null ? Reflect.get(found, name) : undefined
  return String(found)
}
