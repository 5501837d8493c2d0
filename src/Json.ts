/**
 * Json: values as JSON by which calls and settings are told apart.
 *
 * @internal
 */

/** The text of a value, and of maps what they hold: JSON leaves them empty, and two that differ would be the same. */
export const text = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) => (inner instanceof Map ? [...inner] : inner))
