/**
 * ParquetPages: whether a Parquet file is what its metadata and its pages say, before anything of it is decoded.
 *
 * `hyparquet` follows the sizes in a file without a look at them: one wrong byte may lead it round in circles, and a
 * column that it does not know fails where nobody waits for it. So all numbers are held against each other first.
 *
 * @internal
 */
import type { AsyncBuffer, ColumnMetaData, FileMetaData, SchemaTree } from "hyparquet"
import { parquetMetadataAsync, parquetSchema } from "hyparquet"
import { parquetHeader } from "hyparquet/src/column.js"

/** A page of more bytes, unpacked, is taken for damage; writers make pages of about one MiB. */
const maxPageBytes = 256 * 2 ** 20

/** The columns that hold values, by their paths, and whether each row has exactly one. */
const leavesOf = (tree: SchemaTree): ReadonlyMap<string, boolean> => {
  const leaves = new Map<string, boolean>()
  const collect = ({ children, path, element }: SchemaTree, flat: boolean) => {
    const one = flat && element.repetition_type !== "REPEATED"
    if (children.length === 0) leaves.set(JSON.stringify(path), one)
    for (const child of children) collect(child, one)
  }
  collect(tree, true)
  return leaves
}

/** The bytes of a column chunk in the file. */
const rangeOf = (column: ColumnMetaData): readonly [start: number, end: number] => {
  const start = Number(column.dictionary_page_offset || column.data_page_offset)
  return [start, start + Number(column.total_compressed_size)]
}

const damaged = (what: string): never => {
  throw new Error(what)
}

/** The metadata of a file, which fits its schema and its size; throws a sentence. */
export const metadata = async (file: AsyncBuffer): Promise<FileMetaData> => {
  const found = await parquetMetadataAsync(file)
  const leaves = leavesOf(parquetSchema(found))
  for (const { columns, num_rows } of found.row_groups) {
    const seen = new Set<string>()
    for (const { meta_data } of columns) {
      const column = meta_data ?? damaged("a column has no metadata")
      const path = JSON.stringify(column.path_in_schema)
      const flat = leaves.get(path)
      if (flat === undefined || seen.has(path)) damaged("its columns are not those of its schema")
      seen.add(path)
      const [start, end] = rangeOf(column)
      const { num_values: values } = column
      const inside = start >= 4 && start <= end && end <= file.byteLength
      // A column without values need not be anywhere.
      if (values !== 0n && !inside) damaged("a column lies outside of the file")
      if (values < 0n || num_rows < 0n || (flat ? values !== num_rows : values < num_rows)) {
        damaged("a column has another number of values than there are rows")
      }
    }
  }
  return found
}

/** Walks through the pages of a column chunk; throws a sentence. */
const checkPages = (view: DataView<ArrayBuffer>, values: number): void => {
  const reader = { view, offset: 0 }
  let seen = 0
  while (seen < values && reader.offset < view.byteLength - 1) {
    const header = parquetHeader(reader)
    const { compressed_page_size: size, uncompressed_page_size: unpacked } = header
    if (!(size >= 0 && reader.offset + size <= view.byteLength && unpacked >= 0 && unpacked <= maxPageBytes)) {
      damaged("a page has a size that cannot be")
    }
    const second = header.type === "DATA_PAGE_V2" ? header.data_page_header_v2 : undefined
    const data = header.type === "DATA_PAGE" ? header.data_page_header : second
    const known = data ?? (header.type === "DICTIONARY_PAGE" ? header.dictionary_page_header : undefined)
    const count = known?.num_values ?? damaged("a page of an unknown kind")
    if (second !== undefined) {
      const {
        num_nulls: nulls,
        repetition_levels_byte_length: repeated,
        definition_levels_byte_length: defined
      } = second
      if (!(nulls >= 0 && nulls <= count && repeated >= 0 && defined >= 0 && repeated + defined <= size)) {
        damaged("a page has levels that cannot be")
      }
    }
    // Eight values to a byte is the most that a dictionary can hold.
    const most = data === undefined ? 8 * unpacked : values - seen
    if (!(count >= 0 && count <= most)) damaged("a page has a number of values that cannot be")
    if (data !== undefined) seen += count
    reader.offset += size
  }
  if (seen < values) damaged("a column ends early")
}

/** The file, whose columns are checked when they are read. */
export const checked = (file: AsyncBuffer, { row_groups }: FileMetaData): AsyncBuffer => {
  const chunks = row_groups.flatMap(({ columns }) =>
    columns.flatMap(({ meta_data: column }) =>
      column === undefined ? [] : [{ range: rangeOf(column), values: Number(column.num_values) }]
    )
  )
  return {
    byteLength: file.byteLength,
    slice: async (from, to = file.byteLength) => {
      const bytes = await file.slice(from, to)
      for (const { range, values } of chunks) {
        const [start, end] = range
        if (start >= from && end <= to) checkPages(new DataView(bytes, start - from, end - start), values)
      }
      return bytes
    }
  }
}
