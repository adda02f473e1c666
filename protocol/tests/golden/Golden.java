// Writes golden bytes with Kafka's own classes, or reads ours with them. Not part of the build; how to run it:
//   java -cp "$FIRN_KAFKA_JARS/*" Golden.java write ../../schemas > messages.txt
//   java -cp "$FIRN_KAFKA_JARS/*" Golden.java echo < ours.txt    (prints each line that Kafka reads or writes otherwise)
// A line is: message, version, hex digits. Values are counted up, so that swapped fields show; a field is left at its
// default where the version cannot carry another value.

import java.io.*;
import java.lang.reflect.*;
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.internal.*;

public class Golden {
    static int counter;

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("echo")) {
            echo();
            return;
        }
        try (var tables = Files.list(Path.of(arguments[1]))) {
            for (Path table : tables.filter(path -> path.toString().endsWith(".schema")).sorted().toList()) {
                String name = table.getFileName().toString().replace(".schema", "");
                Message message = create(name);
                TreeSet<Short> versions = new TreeSet<>();
                versions.add(message.lowestSupportedVersion());
                versions.add(message.highestSupportedVersion());
                String head = Files.readAllLines(table).get(0).replaceAll(".*flexible=", "").replaceAll("[+ ].*", "");
                if (!head.startsWith("none")) {
                    short flexible = (short) Math.max(Short.parseShort(head), message.lowestSupportedVersion());
                    versions.add(flexible);
                    versions.add((short) Math.max(flexible - 1, message.lowestSupportedVersion()));
                }
                for (short version : versions) {
                    counter = 0;
                    Message filled = create(name);
                    fill(filled, filled, version);
                    System.out.println(name + " " + version + " " + HexFormat.of().formatHex(write(filled, version)));
                }
            }
        }
    }

    static void echo() throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        int count = 0, wrong = 0;
        for (String line; (line = lines.readLine()) != null; count++) {
            String[] words = line.split(" ", -1);
            byte[] bytes = HexFormat.of().parseHex(words[2]);
            String problem = null;
            try {
                Message message = create(words[0]);
                ByteBuffer buffer = ByteBuffer.wrap(bytes);
                message.read(new ByteBufferAccessor(buffer), Short.parseShort(words[1]));
                byte[] again = write(message, Short.parseShort(words[1]));
                if (buffer.hasRemaining()) problem = buffer.remaining() + " bytes left over";
                else if (!Arrays.equals(bytes, again)) problem = "written as " + HexFormat.of().formatHex(again);
            } catch (Exception e) {
                problem = e.toString();
            }
            if (problem != null && wrong++ < 20) System.out.println(line + "\n  " + problem);
        }
        System.out.println(count + " messages, " + wrong + " differ");
    }

    static Message create(String name) throws Exception {
        for (String candidate : List.of(
                "org.apache.kafka.common.message." + name + "Data",
                "org.apache.kafka.common.message." + name,
                "org.apache.kafka.coordinator.group.generated." + name)) {
            try {
                return (Message) Class.forName(candidate).getConstructor().newInstance();
            } catch (ClassNotFoundException e) {
                // The next one.
            }
        }
        throw new IllegalArgumentException(name);
    }

    static byte[] write(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        return buffer.array();
    }

    /** Sets each field of `part` for which `whole` can still be written. */
    static void fill(Message whole, Object part, short version) throws Exception {
        for (Field field : part.getClass().getDeclaredFields()) {
            if (Modifier.isStatic(field.getModifiers()) || field.getName().startsWith("_")) continue;
            field.setAccessible(true);
            if (field.getName().equals("next") || field.getName().equals("prev")) continue;
            Object before = field.get(part);
            set(field, part, whole, version);
            try {
                write(whole, version);
            } catch (RuntimeException e) {
                field.set(part, before);
            }
        }
    }

    @SuppressWarnings("unchecked")
    static void set(Field field, Object part, Message whole, short version) throws Exception {
        Class<?> type = field.getType();
        counter++;
        if (type == boolean.class) field.set(part, !field.getBoolean(part));
        else if (type == byte.class) field.set(part, (byte) counter);
        else if (type == short.class) field.set(part, (short) (0x100 + counter));
        else if (type == int.class) field.set(part, 0x10000 + counter);
        else if (type == long.class) field.set(part, 0x100000000L + counter);
        else if (type == String.class) field.set(part, "text-" + counter);
        else if (type == Uuid.class) field.set(part, new Uuid(0x1122334455667788L, counter));
        else if (type == byte[].class) field.set(part, new byte[] {(byte) counter, 0, (byte) 0xff});
        else if (type == ByteBuffer.class) field.set(part, ByteBuffer.wrap(new byte[] {(byte) counter, 7}));
        else if (type == BaseRecords.class) {
            SimpleRecord record = new SimpleRecord(1234L, "key".getBytes(), "value".getBytes());
            field.set(part, MemoryRecords.withRecords(7L, Compression.NONE, record));
        } else if (Collection.class.isAssignableFrom(type)) {
            Type element = type == List.class
                ? ((ParameterizedType) field.getGenericType()).getActualTypeArguments()[0]
                : ((ParameterizedType) type.getGenericSuperclass()).getActualTypeArguments()[0];
            Collection<Object> values = type == List.class ? new ArrayList<>() : (Collection<Object>) type.getConstructor().newInstance();
            field.set(part, values);
            for (int index = 0; index < 2; index++) addElement(values, (Class<?>) element, whole, version);
        } else {
            Object inner = type.getConstructor().newInstance();
            field.set(part, inner);
            fill(whole, inner, version);
        }
    }

    static void addElement(Collection<Object> values, Class<?> type, Message whole, short version) throws Exception {
        counter++;
        if (type == Integer.class) values.add(0x20000 + counter);
        else if (type == Long.class) values.add(0x200000000L + counter);
        else if (type == Short.class) values.add((short) (0x200 + counter));
        else if (type == Byte.class) values.add((byte) counter);
        else if (type == String.class) values.add("element-" + counter);
        else if (type == Uuid.class) values.add(new Uuid(counter, 0x99L));
        else {
            Object element = type.getConstructor().newInstance();
            values.add(element);
            fill(whole, element, version);
        }
    }
}
