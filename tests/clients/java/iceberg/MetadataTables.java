import java.util.Map;
import org.apache.iceberg.Files;
import org.apache.iceberg.FileScanTask;
import org.apache.iceberg.StructLike;
import org.apache.iceberg.Table;
import org.apache.iceberg.catalog.SessionCatalog.SessionContext;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.exceptions.NoSuchTableException;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.rest.HTTPClient;
import org.apache.iceberg.rest.RESTSessionCatalog;
import org.apache.iceberg.rest.auth.AuthSession;

/**
 * Opens metadata tables of a table as Spark and Flink do, and prints a line "NAME ROWS" for each, with -1 for no such table.
 *
 * <p>Arguments: the catalog's URL, the table, and the names of the metadata tables. The store is a folder.
 */
public final class MetadataTables {
  public static void main(String[] args) throws Exception {
    SessionContext context = SessionContext.createEmpty();
    try (RESTSessionCatalog catalog =
        new RESTSessionCatalog(
            config -> HTTPClient.builder(config).uri(args[0]).withAuthSession(AuthSession.EMPTY).build(),
            (session, config) -> new LocalFiles())) {
      catalog.initialize("firn", Map.of("uri", args[0]));
      for (int i = 2; i < args.length; i++) {
        try {
          Table table = catalog.loadTable(context, TableIdentifier.of("topics", args[1], args[i]));
          System.out.println(args[i] + " " + rows(table));
        } catch (NoSuchTableException missing) {
          System.out.println(args[i] + " -1");
        }
      }
    }
  }

  private static long rows(Table table) throws Exception {
    long rows = 0;
    try (CloseableIterable<FileScanTask> tasks = table.newScan().planFiles()) {
      for (FileScanTask task : tasks) {
        try (CloseableIterable<StructLike> read = task.asDataTask().rows()) {
          for (StructLike ignored : read) {
            rows++;
          }
        }
      }
    }
    return rows;
  }

  private static final class LocalFiles implements FileIO {
    @Override
    public InputFile newInputFile(String location) {
      return Files.localInput(location);
    }

    @Override
    public OutputFile newOutputFile(String location) {
      throw new UnsupportedOperationException(location);
    }

    @Override
    public void deleteFile(String location) {
      throw new UnsupportedOperationException(location);
    }
  }
}
