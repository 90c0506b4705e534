"""Device, DeviceModel, DeviceStatus: their fields. None has a status subresource, though two have a status.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

DEVICE = """
spec object
  deviceModelRef object atomic
    name string default=
  methods []object
    description string
    name string
    propertyNames []string
  nodeName string
  properties []object
    collectCycle int64
    desired @TwinProperty
    name string
    pushMethod object
      anomalyDetection object free
      dbMethod object
        TDEngine object
          TDEngineClientConfig object
            addr string
            dbName string
        influxdb2 object
          influxdb2ClientConfig object
            bucket string
            org string
            url string
          influxdb2DataConfig object
            fieldKey string
            measurement string
            tag map[string]
        mysql object
          mysqlClientConfig object
            addr string
            database string
            userName string
        redis object
          redisClientConfig object
            addr string
            db int
            minIdleConns int
            poolsize int
      http object
        hostName string
        port int64
        requestPath string
        timeout int64
      mqtt object
        address string
        qos int32
        retained bool
        topic string
      otel object
        endpointURL string
    reportCycle int64
    reportToCloud bool
    visitors object
      configData object free
      protocolName string
  protocol object
    configData object free
    protocolName string
  stateReport object
    reportCycle int64
    reportToCloud bool
status object free
  reportCycle int64
  reportToCloud bool
"""

DEVICE_V1ALPHA2 = """
spec object
  data object
    dataProperties []object
      metadata map[string]
      propertyName string
    dataTopic string
  deviceModelRef object atomic
    name string default=
  nodeSelector @NodeSelector atomic
  propertyVisitors []object
    bluetooth object
      characteristicUUID string
      dataConverter object
        endIndex int
        orderOfOperations []object
          operationType string
          operationValue number
        shiftLeft int
        shiftRight int
        startIndex int
      dataWrite map[bytes]
    collectCycle int64
    customizedProtocol object
      configData object free
      protocolName string
    customizedValues object free
    modbus object
      isRegisterSwap bool
      isSwap bool
      limit int64
      offset int64
      register string enum=CoilRegister|DiscreteInputRegister|InputRegister|HoldingRegister
      scale number
    opcua object
      browseName string
      nodeID string
    propertyName string
    reportCycle int64
  protocol object
    bluetooth object
      macAddress string
    common object
      collectRetryTimes int64
      collectTimeout int64
      collectType string enum=sync|async
      com object
        baudRate int64 enum=115200|57600|38400|19200|9600|4800|2400|1800|1200|600|300|200|150|134|110|75|50
        dataBits int64 enum=8|7|6|5
        parity string enum=none|even|odd
        serialPort string
        stopBits int64 enum=1|2
      commType string
      customizedValues object free
      reconnRetryTimes int64
      reconnTimeout int64
      tcp object
        ip string
        port int64
    customizedProtocol object
      configData object free
      protocolName string
    modbus object
      slaveID int64
    opcua object
      certificate string
      password string
      privateKey string
      securityMode string
      securityPolicy string
      timeout int64
      url string
      userName string
status object
  twins []object
    desired @TwinProperty
    propertyName string
    reported @TwinProperty
"""

DEVICEMODEL = """
spec object
  properties []object
    accessMode string enum=ReadWrite|ReadOnly
    description string
    maximum string
    minimum string
    name string
    type string enum=INT|FLOAT|DOUBLE|STRING|BOOLEAN|BYTES|STREAM
    unit string
    visitors object
      configData object free
      protocolName string
  protocol string
  protocolConfigData object free
"""

DEVICEMODEL_V1ALPHA2 = """
spec object
  properties []object
    description string
    name string
    type object
      boolean object
        accessMode string enum=ReadWrite|ReadOnly
        defaultValue bool
      bytes object
        accessMode string enum=ReadWrite|ReadOnly
      double object
        accessMode string enum=ReadWrite|ReadOnly
        defaultValue number
        maximum number
        minimum number
        unit string
      float object
        accessMode string enum=ReadWrite|ReadOnly
        defaultValue number
        maximum number
        minimum number
        unit string
      int object
        accessMode string enum=ReadWrite|ReadOnly
        defaultValue int64
        maximum int64
        minimum int64
        unit string
      string object
        accessMode string enum=ReadWrite|ReadOnly
        defaultValue string
  protocol string
"""

DEVICESTATUS = """
spec object
status object
  extensions object free
  lastOnlineTime string
  state string
  twins []object
    observedDesired @TwinProperty
    propertyName string
    reported @TwinProperty
"""

DEVICESTATUS_V1ALPHA2 = """
twins []object
  desired @TwinProperty
  propertyName string
  reported @TwinProperty
"""

KINDS = (
    CustomKind(
        "devices.kubeedge.io",
        "Device",
        "devices",
        (
            CustomVersion("v1beta1", DEVICE),
            CustomVersion("v1alpha2", DEVICE_V1ALPHA2),
        ),
    ),
    CustomKind(
        "devices.kubeedge.io",
        "DeviceModel",
        "devicemodels",
        (
            CustomVersion("v1beta1", DEVICEMODEL),
            CustomVersion("v1alpha2", DEVICEMODEL_V1ALPHA2),
        ),
    ),
    CustomKind(
        "devices.kubeedge.io",
        "DeviceStatus",
        "devicestatuses",
        (
            CustomVersion("v1beta1", DEVICESTATUS),
            CustomVersion("v1alpha2", DEVICESTATUS_V1ALPHA2),
        ),
    ),
)
